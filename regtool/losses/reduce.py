"""Reduction of a map to a number, with or without a mask."""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of ``values`` (B, C, *S), weighted by ``mask`` (broadcast to it) where given.

    An empty mask gives zero, not a NaN, so that one empty crop does not end a training.
    """
    if mask is None:
        return values.mean()
    weight = mask.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)
