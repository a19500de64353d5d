"""A synthetic fixed image: the moving one is noised and led back, with both images in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from regtool.api import Context
from regtool.api.diffusion import NoiseSchedule, add_noise, respaced, respaced_step
from regtool_diffusemorph.images import prepared

if TYPE_CHECKING:
    from regtool_diffusemorph.model import DiffuseMorph


def synthesise(
    model: DiffuseMorph,
    schedule: NoiseSchedule,
    moving: Tensor,
    fixed: Tensor,
    start: int,
    steps: int,
    context: Context,
) -> Tensor:
    """The image (B, 1, *S) in [0, 1] at the end of the reverse process.

    ``moving`` and ``fixed`` (B, 1, *S) in [0, 1]. The moving image is noised to step ``start``;
    then ``steps`` of the steps below it lead back, the clean estimate clamped to [-1, 1] at each
    (Kim et al. 2022, section 3.4; METHODS 3.5). Noise comes from ``context.generator``; one pattern
    serves all slices of a batch, so that a stack of slices stays coherent across them.
    """
    (m, f), crop = prepared(moving, fixed)
    draw = context.generator
    shape = (1, *m.shape[1:])
    noise = torch.randn(shape, generator=draw, device=m.device)
    state = add_noise(schedule, m, noise, start)
    levels = respaced(start, steps)
    for number, (here, there) in enumerate(levels):
        t = torch.full((1,), here, dtype=torch.int64, device=m.device)
        fresh = torch.randn(shape, generator=draw, device=m.device)
        state = respaced_step(
            schedule, state, model.noise(m, f, state, t), here, there, fresh, bound=1.0
        )
        context.report(number + 1, len(levels))
    return crop((state.clamp(-1, 1) + 1) / 2)
