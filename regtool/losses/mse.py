"""Mean squared difference and its gradient."""

from __future__ import annotations

from torch import Tensor

from regtool.losses.reduce import masked_mean


def mse(fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
    """``mean((fixed - moving)**2)`` over voxels, channels and batch.

    ``fixed`` and ``moving`` (B, C, *S); ``mask`` (B or 1, 1, *S) weights the mean.
    Returns a scalar.
    """
    return masked_mean((fixed - moving) ** 2, mask)


def mse_gradient(
    fixed: Tensor, warped: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``mse`` of each batch element (B,), and its derivative to ``warped`` (B, C, *S)."""
    difference = warped - fixed
    axes = tuple(range(1, fixed.dim()))
    shape = (-1, *[1] * (fixed.dim() - 1))
    if weight is None:
        count = float(fixed[0].numel())
        return difference.square().sum(axes) / count, difference * (2 / count)
    weight = weight.expand_as(difference)
    total = weight.sum(axes).clamp(min=1e-6)
    pull = difference * weight
    return (pull * difference).sum(axes) / total, pull * (2 / total.view(shape))
