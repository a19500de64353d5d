"""Overlap of warped labels as a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regtool.spatial.warp import warp


def soft_dice(
    fixed_labels: Tensor,
    moving_labels: Tensor,
    displacement: Tensor | None = None,
    labels: Sequence[int] | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``1 - mean Dice`` of label indicators, the moving ones warped linearly.

    Label maps (B, 1, *S) of whole numbers; ``displacement`` (B, ndim, *S) in voxels, or None when
    both are aligned. ``labels`` defaults to every non-zero label of either map. A label absent from
    both maps of a batch element does not count; with none left the loss is zero.
    Returns a scalar, differentiable with respect to the displacement.
    """
    if labels is None:
        found = torch.unique(torch.cat([fixed_labels.reshape(-1), moving_labels.reshape(-1)]))
        labels = [int(v) for v in found.tolist() if v != 0]
    if not len(labels):
        return fixed_labels.new_zeros((), dtype=torch.float32)
    dtype = torch.float32 if displacement is None else displacement.dtype
    fixed, moving = one_hot(fixed_labels, labels, dtype), one_hot(moving_labels, labels, dtype)
    if displacement is not None:
        present = moving.flatten(2).any(-1)
        warped = warp(moving, displacement)
    else:
        present, warped = moving.flatten(2).any(-1), moving
    return soft_dice_maps(fixed, warped, present | fixed.flatten(2).any(-1), eps)


def soft_dice_maps(
    fixed: Tensor, moving: Tensor, counted: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """``1 - mean 2 sum(f m) / (sum f + sum m)`` of maps (B, K, *S) in [0, 1].

    ``counted`` (B, K) says which entries enter the mean; all of them by default.
    """
    axes = tuple(range(2, fixed.dim()))
    overlap = 2 * (fixed * moving).sum(axes)
    score = (overlap + eps) / (fixed.sum(axes) + moving.sum(axes) + eps)
    if counted is None:
        return 1 - score.mean()
    weight = counted.to(score.dtype)
    return ((1 - score) * weight).sum() / weight.sum().clamp(min=1)


def one_hot(labels: Tensor, values: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Indicators (B, K, *S) of the K given values in a label map (B, 1, *S)."""
    wanted = torch.as_tensor(list(values), device=labels.device)
    return (labels == wanted.reshape(1, -1, *[1] * (labels.dim() - 2))).to(dtype)
