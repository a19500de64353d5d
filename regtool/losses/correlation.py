"""Correlation of two whole images."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOOR = 1e-8


def global_ncc(fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative Pearson correlation over all voxels, the mean over the batch; a scalar in [-1, 1].

    ``fixed`` and ``moving`` (B, C, *S), best in [0, 1]; computed in at least float32. ``mask``
    (B or 1, 1, *S), non-negative weights. ``cov / sqrt(var_f var_m)`` with each variance at least
    1e-8, so that flat images give zero and finite gradients. Raises ValueError for images of
    different shapes.
    """
    if fixed.shape != moving.shape:
        raise ValueError(
            f"images are (B, C, *S) of one shape, not {tuple(fixed.shape)}, {tuple(moving.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(fixed.dtype, moving.dtype), torch.float32)
    f, m = fixed.to(dtype).flatten(1), moving.to(dtype).flatten(1)
    weight = torch.ones_like(f[:1]) if mask is None else mask.to(dtype).expand_as(fixed).flatten(1)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    f = f - (weight * f).sum(1, keepdim=True)
    m = m - (weight * m).sum(1, keepdim=True)
    var_f = (weight * f.square()).sum(1).clamp(min=_FLOOR)
    var_m = (weight * m.square()).sum(1).clamp(min=_FLOOR)
    return -((weight * f * m).sum(1) / (var_f * var_m).sqrt()).mean()
