"""Regularisers of a displacement or velocity."""

from __future__ import annotations

import torch
from torch import Tensor


def diffusion(field: Tensor, spacing: tuple[float, ...] | None = None) -> Tensor:
    """Squared forward differences: per axis the mean, then the mean over axes.

    ``field`` (B, ndim, *S) in voxels. ``spacing`` (one value a tensor axis, any unit) turns the
    differences into derivatives per length, with the components scaled alike, so that thick slices
    are not punished for being thick; without it voxels count alike. Axes of one voxel are left out.
    Returns a scalar. Source: VoxelMorph and its successors; the papers print a sum, their code and
    weights use this mean (METHODS 2.3).
    """
    if spacing is not None:
        field = field * _column(spacing, field)
    terms = []
    for axis in range(2, field.dim()):
        if field.shape[axis] < 2:
            continue
        step = torch.diff(field, dim=axis)
        if spacing is not None:
            step = step / spacing[axis - 2]
        terms.append(step.square().mean())
    return _mean(terms, field)


def bending_energy(field: Tensor, spacing: tuple[float, ...] | None = None) -> Tensor:
    """Mean of all squared second derivatives, mixed ones counted twice.

    ``field`` (B, ndim, *S); ``spacing`` as in ``diffusion``. Second differences inside the grid;
    axes too short for one give no term. Affine displacements cost nothing. Returns a scalar.
    Source: Rueckert 1999, equation 5.
    """
    if spacing is not None:
        field = field * _column(spacing, field)
    steps = spacing or (1.0,) * (field.dim() - 2)
    terms = []
    for a in range(2, field.dim()):
        for b in range(a, field.dim()):
            if field.shape[a] < (3 if a == b else 2) or field.shape[b] < 2:
                continue
            second = torch.diff(torch.diff(field, dim=a), dim=b) / (steps[a - 2] * steps[b - 2])
            terms.append(second.square().mean() * (1.0 if a == b else 2.0))
    return sum(terms, start=field.new_zeros(())) if terms else field.sum() * 0.0


def _mean(terms: list[Tensor], field: Tensor) -> Tensor:
    return torch.stack(terms).mean() if terms else field.sum() * 0.0


def _column(spacing: tuple[float, ...], field: Tensor) -> Tensor:
    values = torch.tensor(spacing, dtype=field.dtype, device=field.device)
    return values.reshape(1, -1, *[1] * (field.dim() - 2))
