"""Separable smoothing with exact handling of the border."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Border = Literal["nearest", "reflect"]

_CACHE = 1 << 18
"""Volumes of more voxels are filtered slab by slab."""

_PLANES, _ROWS, _COLUMNS = 8, 48, 64
"""Sizes of the blocks, measured on 165 x 208 x 168."""


def gaussian(tensor: Tensor, sigma: float | Sequence[float], truncate: float = 4.0) -> Tensor:
    """Gaussian smoothing of (B, C, *S), border voxels repeated outside.

    ``sigma`` in voxels, one for all axes or one per tensor axis; 0 leaves an axis alone. The kernel
    is sampled at whole voxels up to ``truncate * sigma`` and sums to one, as in
    ``scipy.ndimage.gaussian_filter(mode="nearest")``. Returns at least float32. Differentiable.
    """
    ndim = tensor.dim() - 2
    sigmas = [float(sigma)] * ndim if isinstance(sigma, int | float) else [float(s) for s in sigma]
    if len(sigmas) != ndim or min(sigmas) < 0:
        raise ValueError(f"sigma is not negative and one value for each of {ndim} axes: {sigma}")
    weights = [gaussian_weights(s, int(truncate * s + 0.5)) if s > 0 else (1.0,) for s in sigmas]
    return separable_filter(tensor, weights, "nearest")


def gaussian_weights(sigma: float, radius: int) -> tuple[float, ...]:
    """Normalised samples of a Gaussian at -radius ... radius."""
    raw = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    total = sum(raw)
    return tuple(v / total for v in raw)


def separable_filter(tensor: Tensor, weights: Sequence[Sequence[float]], border: Border) -> Tensor:
    """Filter (B, C, *S) along every axis with its own odd, centred weights.

    ``nearest`` repeats the border voxel, ``reflect`` mirrors at its centre (PyTorch's ``reflect``);
    kernels longer than the axis work. Each axis is one product with a banded matrix, which is
    faster on CPU than 1-D convolutions and gives the border for free; volumes on the CPU go through
    all three axes slab by slab, while a slab is in the cache.
    """
    x = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    with torch.autocast(x.device.type, enabled=False):  # autocast would multiply in half precision
        learning = x.requires_grad and torch.is_grad_enabled()
        if x.dim() == 5 and x.device.type == "cpu" and not learning and x[0, 0].numel() > _CACHE:
            return _by_slabs(x, weights, border)
        for axis, taps in enumerate(weights, start=2):
            if len(taps) > 1 and x.shape[axis] > 1:
                x = _along(x, axis, _matrix(x.shape[axis], taps, border).to(x))
    return x


def _by_slabs(x: Tensor, weights: Sequence[Sequence[float]], border: Border) -> Tensor:
    """All axes of (B, C, *S), a few planes of one channel at a time."""
    bands = [_Band(n, taps, border, x) for n, taps in zip(x.shape[2:], weights, strict=True)]
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    planes = x.shape[2]
    for source, target in zip(x.flatten(0, 1), out.flatten(0, 1), strict=True):
        for start in range(0, planes, _PLANES):
            stop = min(planes, start + _PLANES)
            slab = bands[0].rows(source.reshape(planes, -1), start, stop)
            slab = bands[1].along_rows(slab.reshape(stop - start, *x.shape[3:]))
            target[start:stop] = bands[2].along_columns(slab)
    return out


class _Band:
    """A banded matrix of which only blocks about the diagonal are multiplied with."""

    def __init__(self, n: int, taps: Sequence[float], border: Border, like: Tensor) -> None:
        self.n, self.still = n, len(taps) < 2 or n == 1
        self.radius = min(n, len(taps) // 2)
        self.matrix = like.new_empty(0) if self.still else _matrix(n, taps, border).to(like)

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` of the product with x (n, m)."""
        if self.still:
            return x[start:stop]
        low, high = self._reach(start, stop)
        return self.matrix[start:stop, low:high] @ x[low:high]

    def along_rows(self, x: Tensor) -> Tensor:
        """The product with each (n, m) of x (k, n, m)."""
        if self.still:
            return x
        out = torch.empty_like(x)
        for start in range(0, self.n, _ROWS):
            stop = min(self.n, start + _ROWS)
            low, high = self._reach(start, stop)
            out[:, start:stop] = self.matrix[start:stop, low:high] @ x[:, low:high]
        return out

    def along_columns(self, x: Tensor) -> Tensor:
        """The product with each (n,) of x (k, m, n)."""
        if self.still:
            return x
        out = torch.empty_like(x)
        for start in range(0, self.n, _COLUMNS):
            stop = min(self.n, start + _COLUMNS)
            low, high = self._reach(start, stop)
            out[..., start:stop] = x[..., low:high] @ self.matrix[start:stop, low:high].T
        return out

    def _reach(self, start: int, stop: int) -> tuple[int, int]:
        # Mirrored voxels lie no farther inside than those outside the other end of a kernel.
        return max(0, start - self.radius), min(self.n, stop + self.radius)


def _along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    if axis == x.dim() - 1:
        return x @ matrix.T
    blocks = x.reshape(-1, x.shape[axis], math.prod(x.shape[axis + 1 :]))
    return (matrix @ blocks).reshape(x.shape)


def _matrix(n: int, taps: Sequence[float], border: Border) -> Tensor:
    """Banded (n, n) matrix whose row i holds the weights around i, folded in at the border."""
    radius = len(taps) // 2
    offsets = torch.arange(-radius, radius + 1)
    columns = torch.arange(n)[:, None] + offsets
    if border == "nearest":
        columns = columns.clamp(0, n - 1)
    elif border == "reflect":
        columns = columns.remainder(2 * n - 2)
        columns = torch.minimum(columns, 2 * n - 2 - columns)
    else:
        raise ValueError(f"unknown border {border!r}: use nearest or reflect")
    matrix = torch.zeros(n, n, dtype=torch.float64)
    values = torch.tensor(list(taps), dtype=torch.float64).expand(n, -1)
    return matrix.scatter_add_(1, columns, values)
