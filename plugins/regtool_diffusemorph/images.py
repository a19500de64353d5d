"""Images as the networks see them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from regtool.api.nn import pad_to_multiple

MULTIPLE = 16
"""Sizes that both networks take."""


def prepared(moving: Tensor, fixed: Tensor) -> tuple[tuple[Tensor, Tensor], Callable[..., Tensor]]:
    """Both images (B, 1, *S) from [0, 1] to [-1, 1], padded, and what crops back to ``S``."""
    m, crop = pad_to_multiple(moving, MULTIPLE)
    f, _ = pad_to_multiple(fixed, MULTIPLE)
    return (2 * m - 1, 2 * f - 1), crop
