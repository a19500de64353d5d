"""Folds, SD of J and of log J of a displacement, by either kind of differences."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from regtool.spatial.jacobian import FoldSummary, folds, jacobian_determinant


def displacement_statistics(
    displacement: ArrayLike,
    scheme: Literal["central", "forward"] = "central",
    mask: ArrayLike | None = None,
) -> FoldSummary:
    """Statistics of ``det(I + grad u)`` of a displacement (ndim, *S) in voxels, tensor axis order.

    ``central``: central differences without the outermost layer, where they would be one-sided.
    ``forward``: forward differences, all n - 1 of an axis, as DiffuseReg, VTN and SYMNet count
    (METHODS 2.4). ``mask`` (*S) is cut to the same voxels. Axes of one or two voxels are not
    trimmed. Raises ValueError for a mask of another shape or one that leaves no voxel.
    """
    u = torch.as_tensor(np.ascontiguousarray(displacement))[None]
    shape = tuple(u.shape[2:])
    determinant = jacobian_determinant(u, scheme=scheme)[0]
    inside = None
    if mask is not None:
        inside = torch.as_tensor(np.asarray(mask) != 0)
        if tuple(inside.shape) != shape:
            raise ValueError(f"mask {tuple(inside.shape)} for a displacement on {shape}")
        inside = inside[tuple(slice(0, n) for n in determinant.shape)]
    return folds(determinant, inside, trim=scheme == "central")
