"""Mean squared difference."""

from __future__ import annotations

from torch import Tensor

from regtool.losses.reduce import masked_mean


def mse(fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
    """``mean((fixed - moving)**2)`` over voxels, channels and batch.

    ``fixed`` and ``moving`` (B, C, *S); ``mask`` (B or 1, 1, *S) weights the mean.
    Returns a scalar.
    """
    return masked_mean((fixed - moving) ** 2, mask)
