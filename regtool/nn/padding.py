"""Padding to the sizes a U-Net can halve, and cropping back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def pad_to_multiple(
    x: Tensor, multiple: int | Sequence[int]
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Repeat the far edges of ``x`` (B, C, *S) until every size is a multiple of ``multiple``.

    ``multiple``: one for all axes, or one for each.

    Returns the padded tensor and the function that cuts any tensor of its grid back to ``S``.
    Voxel coordinates stay the same, so displacements in voxels need no change.
    """
    sizes = tuple(x.shape[2:])
    each = [multiple] * len(sizes) if isinstance(multiple, int) else multiple
    missing = [-size % m for size, m in zip(sizes, each, strict=True)]
    if not any(missing):
        return x, lambda tensor: tensor
    pads = [value for amount in reversed(missing) for value in (0, amount)]
    padded = torch.nn.functional.pad(x, pads, mode="replicate")
    return padded, lambda tensor: cropped(tensor, sizes)


def cropped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` (B, C, *S) cut back to ``shape`` at its far edges."""
    return x[(slice(None), slice(None), *(slice(0, size) for size in shape))]
