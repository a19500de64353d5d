"""Backward (pull) warping of images and labels by a displacement in voxels.

One convention everywhere: ``warped(x) = moving(x + u(x))`` with u in voxels, component i along
tensor axis i, and corner-aligned sampling (voxel centres 0 and n - 1 are the ends of an axis).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["linear", "nearest"]
Padding = Literal["border", "zeros"]

_TORCH_MODE = {"linear": "bilinear", "nearest": "nearest"}


def identity(
    shape: tuple[int, ...],
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the voxel coordinates of a grid, (ndim, *shape), component i along tensor axis i."""
    axes = [torch.arange(n, device=device, dtype=dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def warp(
    image: Tensor, displacement: Tensor, *, mode: Mode = "linear", padding: Padding = "border"
) -> Tensor:
    """Warp an image: ``out(x) = image(x + u(x))``.

    ``image`` (B, C, *S); ``displacement`` (B, ndim, *S2) in voxels of the image; a batch of one
    on either side is repeated. Returns (B, C, *S2), at least float32. ``border`` repeats the edge
    outside, ``zeros`` fades to zero over one voxel. A zero displacement returns the image bit for
    bit. Half precision is computed in float32, since float16 coordinates are whole voxels at 2048.
    Along an axis of one voxel the displacement has no effect.

    Raises ValueError when the dimensions disagree. Source: spatial transformer, Jaderberg 2015.
    """
    _check(image, displacement)
    dtype = _working_dtype(image, displacement)
    image, displacement = _same_batch(image.to(dtype), displacement.to(dtype))
    out = _pull(image, _normalised(displacement, image.shape[2:]), mode, padding)
    if image.shape[2:] == displacement.shape[2:] and _is_zero(displacement):
        # grid_sample rescales its coordinates, which costs a few ulp; only the values are put
        # right, the gradient with respect to the displacement stays.
        out.detach().copy_(image.detach())
    return out


def sample(
    image: Tensor, points: Tensor, *, mode: Mode = "linear", padding: Padding = "border"
) -> Tensor:
    """Interpolate an image at arbitrary points.

    ``image`` (B, C, *S); ``points`` (B, ndim, *P) voxel coordinates of the image in tensor axis
    order, P of any number of dimensions (``(B, ndim, N)`` for landmarks). Returns (B, C, *P).
    """
    _check(image, points)
    ndim = image.dim() - 2
    dtype = _working_dtype(image, points)
    image, points = _same_batch(image.to(dtype), points.to(dtype))
    flat = points if points.dim() == image.dim() else points.reshape(*points.shape[:2], -1)
    parts = [
        flat[:, i] * (2.0 / max(image.shape[2 + i] - 1, 1)) - 1.0 for i in reversed(range(ndim))
    ]
    grid = torch.stack(parts, dim=-1)
    if flat is not points:
        grid = grid.reshape(grid.shape[0], *[1] * (ndim - 1), grid.shape[1], ndim)
    out = _pull(image, grid, mode, padding)
    return out if flat is points else out.reshape(*out.shape[:2], *points.shape[2:])


def warp_labels(
    labels: Tensor,
    displacement: Tensor,
    method: Literal["nearest", "label"] = "nearest",
    *,
    padding: Padding = "border",
) -> Tensor:
    """Warp a label map, inventing no label.

    ``labels`` (B, 1, *S) of whole numbers; ``displacement`` (B, ndim, *S2) voxels. ``nearest``
    takes the nearest voxel; ``label`` warps every label's indicator linearly and takes the largest
    (ties to the lower label), which is smoother and is what the IXI benchmark does (METHODS 2.5).
    Returns (B, 1, *S2) int64.
    """
    values, index = torch.unique(labels, return_inverse=True)
    if padding == "zeros" and not (values == 0).any():
        values = torch.cat([values.new_zeros(1), values])
        values, order = torch.sort(values)
        index = torch.argsort(order)[index + 1]
    floating = displacement.to(_working_dtype(displacement, displacement))
    if method == "nearest":
        return _nearest_labels(values, index, floating, padding).long()
    if method == "label":
        return _majority_labels(values, index, floating, padding).long()
    raise ValueError(f"unknown label interpolation {method!r}: use nearest or label")


def _nearest_labels(
    values: Tensor, index: Tensor, displacement: Tensor, padding: Padding
) -> Tensor:
    # Ranks instead of values: exact in float32 whatever the label numbers are. Counted from the
    # rank of label 0, which is what lies outside with zeros padding.
    zero = int((values == 0).nonzero()[0]) if padding == "zeros" else 0
    ranks = (index - zero).to(displacement.dtype)
    warped = warp(ranks, displacement, mode="nearest", padding=padding)
    return values[warped.round().long() + zero]


def _majority_labels(
    values: Tensor, index: Tensor, displacement: Tensor, padding: Padding
) -> Tensor:
    best: Tensor | None = None
    chosen: Tensor | None = None
    for rank in range(len(values)):
        share = warp((index == rank).to(displacement.dtype), displacement, padding=padding)
        if padding == "zeros" and values[rank] == 0:
            inside = torch.ones_like(index, dtype=displacement.dtype)
            share = share + 1 - warp(inside, displacement, padding="zeros")
        if best is None or chosen is None:
            best, chosen = share, torch.zeros_like(share, dtype=torch.long)
            continue
        # A margin above rounding makes ties go to the lower label on every platform.
        better = share > best + 1e-5
        best = torch.where(better, share, best)
        chosen = torch.where(better, rank, chosen)
    if chosen is None:
        raise ValueError("an empty label map cannot be warped")
    return values[chosen]


def pull_displaced(image: Tensor, displacement: Tensor, padding: Padding = "border") -> Tensor:
    """``image(x + u(x))`` without checks or the exactness at zero; for inner loops."""
    return _pull(image, _normalised(displacement, image.shape[2:]), "linear", padding)


def _is_zero(displacement: Tensor) -> bool:
    # The middle of a real field is hardly ever zero, so the full pass is hardly ever made.
    middle = displacement
    for n in displacement.shape[2:]:
        middle = middle.select(2, n // 2)
    return not middle.any() and not displacement.any()


def _pull(image: Tensor, grid: Tensor, mode: Mode, padding: Padding) -> Tensor:
    if mode not in _TORCH_MODE:
        raise ValueError(f"unknown interpolation {mode!r}: use linear or nearest")
    return F.grid_sample(
        image, grid, mode=_TORCH_MODE[mode], padding_mode=padding, align_corners=True
    )


def _normalised(displacement: Tensor, shape: torch.Size) -> Tensor:
    """Sampling positions x + u(x) in [-1, 1], (B, *S2, ndim), last component first."""
    ndim = len(shape)
    parts = []
    for i in reversed(range(ndim)):
        scale = 2.0 / max(shape[i] - 1, 1)
        n = displacement.shape[2 + i]
        line = torch.arange(n, device=displacement.device, dtype=displacement.dtype) * scale - 1.0
        line = line.reshape(-1, *[1] * (ndim - 1 - i))
        parts.append(torch.add(line, displacement[:, i], alpha=scale))
    # Stacked channel-first: three block copies instead of an interleaving write.
    return torch.stack(parts, dim=1).movedim(1, -1)


def _check(image: Tensor, vectors: Tensor) -> None:
    ndim = image.dim() - 2
    if ndim not in (2, 3):
        raise ValueError(f"an image is (B, C, *S) with 2 or 3 axes in S, not {tuple(image.shape)}")
    if vectors.dim() < 3 or vectors.shape[1] != ndim:
        raise ValueError(
            f"a {ndim}-D image needs vectors (B, {ndim}, ...), not {tuple(vectors.shape)}"
        )


def _working_dtype(a: Tensor, b: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)


def _same_batch(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape[0] == b.shape[0]:
        return a, b
    if a.shape[0] == 1:
        return a.expand(b.shape[0], *a.shape[1:]), b
    if b.shape[0] == 1:
        return a, b.expand(a.shape[0], *b.shape[1:])
    raise ValueError(f"batches of {a.shape[0]} and {b.shape[0]} do not go together")
