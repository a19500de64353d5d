"""Integration of a stationary velocity by scaling and squaring."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.spatial.warp import pull_displaced


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """Displacement of ``exp(v)``: u = v / 2**steps, then ``u <- u(x) + u(x + u(x))`` steps times.

    ``velocity`` (B, ndim, *S) in voxels per unit time. Returns the displacement at time one, same
    shape and units, at least float32 (half precision loses the small first steps). ``steps`` = 0
    returns the velocity. The inverse is ``integrate(-velocity)``.

    Source: Arsigny 2006; Dalca 2019 (VoxelMorph-diff). METHODS 8.2: a port that leaves the
    division out integrates 2**steps times as far.
    """
    if steps < 0:
        raise ValueError(f"the number of squarings must not be negative, not {steps}")
    displacement = velocity.to(torch.promote_types(velocity.dtype, torch.float32))
    displacement = displacement / 2**steps
    for _ in range(steps):
        displacement = displacement + pull_displaced(displacement, displacement)
    return displacement
