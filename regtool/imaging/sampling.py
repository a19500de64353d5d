"""Reading of values between voxels, with ITK's boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def read_at(image: Tensor, index: Tensor, interpolation: str, default: float) -> Tensor:
    """Read an image (C, *S) at ITK indices (ndim, P), (x, y, z) in voxels. Returns (C, P).

    The edge value holds for half a voxel outside the outer voxel centres, ``default`` beyond.
    ``interpolation``: linear (floating image), nearest (halves go up, as in ITK) or label.
    """
    sizes = image.shape[:0:-1]
    outside = torch.zeros(index.shape[1], dtype=torch.bool, device=index.device)
    for row, n in zip(index, sizes, strict=True):
        outside |= ~((row >= -0.5) & (row < n - 0.5))  # so that NaN is outside
    if interpolation == "linear":
        values = _linear(image, index, sizes)
    elif interpolation == "nearest":
        values = image.flatten(1)[:, _flat(index + 0.5, sizes, 1)]
    else:
        values = _vote(image, index, sizes)
    return values.masked_fill_(outside, default)


def _linear(image: Tensor, index: Tensor, sizes: Sequence[int]) -> Tensor:
    ndim = index.shape[0]
    grid = torch.empty(index.shape[1], ndim, dtype=index.dtype, device=index.device)
    for axis, (row, n) in enumerate(zip(index, sizes, strict=True)):
        torch.mul(row, 2 / max(n - 1, 1), out=grid[:, axis]) if n > 1 else grid[:, axis].zero_()
    grid -= 1
    grid = grid.reshape(1, *(1,) * (ndim - 1), -1, ndim)
    out = grid_sample(image[None], grid, "bilinear", "border", align_corners=True)
    return out.reshape(image.shape[0], -1)


def _flat(index: Tensor, sizes: Sequence[int], last: int) -> Tensor:
    """Positions in a flattened image of floor(index), clamped to 0 ... size - last."""
    flat = torch.zeros(index.shape[1], dtype=torch.int64, device=index.device)
    for row, n in zip(reversed(index), reversed(sizes), strict=True):  # x varies fastest
        flat.mul_(n).add_(row.floor().clamp_(0, max(n - last, 0)).long())
    return flat


def _vote(image: Tensor, index: Tensor, sizes: Sequence[int]) -> Tensor:
    """The label with the largest sum of linear weights among the 2**ndim neighbours."""
    first = _flat(index, sizes, 2)
    steps = [int(np.prod(sizes[:axis])) if n > 1 else 0 for axis, n in enumerate(sizes)]
    corners = [
        [(corner >> axis) & 1 for axis in range(len(sizes))] for corner in range(1 << len(sizes))
    ]
    best = image.flatten(1)[:, first]
    for channel, flat in enumerate(image.flatten(1)):
        labels = torch.stack(
            [flat[first + sum(b * s for b, s in zip(bits, steps, strict=True))] for bits in corners]
        )
        mixed = (labels != labels[0]).any(0).nonzero()[:, 0]
        parts = []
        for row, n in zip(index[:, mixed], sizes, strict=True):
            inner = row.clamp(0, n - 1)
            parts.append(inner - inner.floor().clamp_(0, max(n - 2, 0)))
        weights = torch.stack([_weight(bits, parts) for bits in corners])
        best[channel, mixed] = _heaviest(labels[:, mixed], weights)
    return best


def _weight(bits: Sequence[int], parts: Sequence[Tensor]) -> Tensor:
    """The linear weight of one corner, from the fractional position along each axis."""
    weight = torch.ones_like(parts[0])
    for bit, part in zip(bits, parts, strict=True):
        weight *= part if bit else 1 - part
    return weight


def _heaviest(labels: Tensor, weights: Tensor) -> Tensor:
    """Per column of (corners, P): the label of the largest total weight, the lower of equals."""
    best = labels[0]
    best_score = torch.full_like(weights[0], -1.0)
    for label in labels:
        score = torch.where(labels == label, weights, 0.0).sum(0)
        better = score > best_score + 1e-9
        tied = ((score - best_score).abs() <= 1e-9) & (label < best)
        best = torch.where(better | tied, label, best)
        best_score = torch.where(better | tied, score, best_score)
    return best
