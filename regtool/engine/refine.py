"""Instance optimisation after a method: its field, made to fit this very pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regtool.engine.device import choose_device, computing
from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import LENGTHS, Optimisation
from regtool.engine.registrar import SLICES_AT_ONCE
from regtool.engine.request import Inputs, Request
from regtool.plugins.description import instance_preset
from regtool.plugins.exchange import Context
from regtool.prepare.pair import as_preparation, prepare_pair
from regtool.spatial.grid import Matrix

LEVELS = 3
"""Resolutions; a method's large motion may be wrong, too, so it does not begin at the finest."""

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Refined:
    """The field afterwards, LPS mm on the fixed grid, and how far points moved in it.

    ``settings``: the values that ran, as JSON.
    """

    field: NDArray[np.float32]
    iterations: int
    moved_mm_mean: float
    moved_mm_max: float
    settings: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The numbers as a plain mapping, ready for JSON."""
        return {name: value for name, value in vars(self).items() if name != "field"}


def refine(
    request: Request,
    inputs: Inputs,
    field: NDArray[np.float32],
    affine: Matrix,
    slices: int | None,
    report: Report | None = None,
) -> Refined:
    """Optimise a field (*S, ndim), LPS mm on the fixed grid, before ``affine``, for its pair.

    At most ``request.refine`` compositive steps on local correlation at a quarter of the
    resolution, as many at half and at the full one, slice by slice where ``slices`` is a tensor
    axis. The fixed image keeps its own grid, so nothing is lost to resampling.
    """
    count = request.refine or 0
    ndim = inputs.fixed.ndim if slices is None else 2
    prepared = prepare_pair(
        inputs.fixed,
        inputs.moving,
        as_preparation(instance_preset(ndim)),
        slices=slices,
        initial=affine,
        fixed_mask=inputs.fixed_mask,
        moving_mask=inputs.moving_mask,
    )
    device = choose_device(request.device)
    settings = Optimisation(**LENGTHS[ndim], iterations=(count,) * LEVELS)
    start = prepared.network_displacement(field)
    found, told = [], {}
    with computing(device, torch.float32, request.threads):
        for first in range(0, len(start), SLICES_AT_ONCE):
            part = slice(first, first + SLICES_AT_ONCE)
            context = Context(torch.Generator(device).manual_seed(request.seed), device)
            if report is not None:
                context.report = report
            answer = optimise(
                prepared.pair.part(part).to(device), settings, context, start[part].to(device)
            )
            assert answer.displacement is not None
            found.append(answer.displacement.cpu())
            told = answer.notes["settings"]
    better = prepared.world_field(torch.cat(found))
    moved = np.linalg.norm(better - field, axis=-1)
    return Refined(better, count, float(moved.mean()), float(moved.max()), told)
