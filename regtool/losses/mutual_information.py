"""Mutual information of two images, for pairs of different contrast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def mutual_information(
    fixed: Tensor, moving: Tensor, bins: int = 32, mask: Tensor | None = None
) -> Tensor:
    """Negative mutual information in nats, a scalar: the mean over the batch.

    ``fixed`` and ``moving`` (B, 1, *S) in [0, 1] (values outside count as the ends); ``mask``
    (B or 1, 1, *S) weights voxels. The joint histogram has ``bins`` by ``bins`` cells; a voxel
    falls into one cell of the fixed image and, by a cubic B-spline, into four of the moving one's,
    so the value is smooth in ``moving``. Differentiable once, with respect to ``moving``.

    Source: Mattes et al., IEEE TMI 22 (2003), equations 5 to 8; Thevenaz and Unser 2000.
    """
    return _MutualInformation.apply(fixed, moving, bins, mask).mean()


def mutual_information_gradient(
    fixed: Tensor, moving: Tensor, bins: int = 32, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of each batch element, (B,), and its gradient with respect to ``moving``, (B, 1, *S)."""
    with torch.no_grad():
        found = [
            _one(fixed[b], moving[b], bins, None if mask is None else mask[min(b, len(mask) - 1)])
            for b in range(fixed.shape[0])
        ]
    return torch.stack([value for value, _ in found]), torch.stack([slope for _, slope in found])


class _MutualInformation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moving: Tensor, bins: int, mask: Tensor | None) -> Tensor:
        values, gradient = mutual_information_gradient(fixed, moving, bins, mask)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * grad.view(-1, *[1] * (gradient.dim() - 1)), None, None


def _one(f: Tensor, m: Tensor, bins: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """One pair: the B-spline reaches two cells beyond a value, hence the two spare ones."""
    inner = bins - 4
    dtype = torch.promote_types(m.dtype, torch.float32)
    row = (f.reshape(-1).clamp(0, 1) * (bins - 1)).round().long()
    inside = (m > 0) & (m < 1)
    at = m.reshape(-1).to(dtype).clamp(0, 1) * inner + 1.5
    base = at.floor()
    share = at - base
    column = base.long() - 1
    weight = torch.ones_like(share) if mask is None else mask.expand_as(f).reshape(-1).to(dtype)
    weight = weight / weight.sum().clamp(min=1e-6)
    cell = row * bins + column
    joint = torch.zeros(bins * bins, dtype=torch.float64, device=m.device)
    for k, value in enumerate(_spline(share)):
        joint += torch.bincount(cell + k, (value * weight).double(), bins * bins)
    joint = joint.view(bins, bins)
    own, other = joint.sum(0), joint.sum(1)
    tiny = 1e-12
    ratio = torch.log(joint.clamp(min=tiny) / own.clamp(min=tiny))  # log p(f, m) / p(m)
    value = (joint * (ratio - torch.log(other.clamp(min=tiny))[:, None])).sum()
    # d MI / d m = sum over cells of d p / d m times log p(f, m) / p(m); the rest cancels.
    table = ratio.to(dtype).view(-1)
    slope = torch.zeros_like(share)
    for k, change in enumerate(_spline_slope(share)):
        slope.addcmul_(change, table[cell + k])
    slope = (slope * weight * -inner).view_as(m) * inside
    return -value.to(dtype), slope


def _spline(t: Tensor) -> tuple[Tensor, ...]:
    """Cubic B-spline weights of the cells at -1, 0, 1, 2 from a value's own cell."""
    s = 1 - t
    return (
        s**3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (3 * s**3 - 6 * s**2 + 4) / 6,
        t**3 / 6,
    )


def _spline_slope(t: Tensor) -> tuple[Tensor, ...]:
    """Derivatives of ``_spline`` with respect to the value, in cells."""
    s = 1 - t
    return (-(s**2) / 2, (3 * t**2 - 4 * t) / 2, -(3 * s**2 - 4 * s) / 2, t**2 / 2)
