"""Smoothing by the diffusion equation, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def relaxed(field: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """The minimiser v of ``|v - u|^2 + sum_ij weights[i][j] |d_j v_i|^2`` for a field ``u``.

    ``field`` (B, C, *S); ``weights``: for each channel a non-negative value for each tensor axis;
    ``d_j`` are forward differences without any across the border. Each cosine of the field is
    divided by ``1 + sum_j weights[i][j] (2 - 2 cos(pi k_j / n_j))``: one implicit step of
    diffusion, stable for any weight; the mean stays. Returns float32 of the same shape.
    """
    if len(weights) != field.shape[1] or any(len(row) != field.dim() - 2 for row in weights):
        raise ValueError(f"one row a channel, one weight an axis for {tuple(field.shape)}")
    shape = field.shape[2:]
    with torch.autocast(field.device.type, enabled=False):
        v = field.float()
        bases = [_cosines(n).to(v) for n in shape]
        for axis, basis in enumerate(bases, start=2):
            v = _along(v, axis, basis)
        table = torch.tensor([list(row) for row in weights], dtype=v.dtype, device=v.device)
        damping = torch.ones((len(weights), *shape), dtype=v.dtype, device=v.device)
        for axis, n in enumerate(shape):
            waves = torch.arange(n, dtype=v.dtype, device=v.device) * (math.pi / n)
            line = (2 - 2 * waves.cos()).reshape(-1, *[1] * (len(shape) - 1 - axis))
            damping += table[:, axis].reshape(-1, *[1] * len(shape)) * line
        v = v / damping
        for axis, basis in enumerate(bases, start=2):
            v = _along(v, axis, basis.T)
    return v


def cosine_transform(field: Tensor, inverse: bool = False) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of (B, C, *S) along all of S, or its inverse.

    Float32; differentiable. Wave k of an axis of n voxels has the Laplacian's eigenvalue
    ``2 cos(pi k / n) - 2`` for differences that end at the border.
    """
    with torch.autocast(field.device.type, enabled=False):
        x = field.float()
        for axis, n in enumerate(x.shape[2:], start=2):
            basis = _cosines(n).to(x)
            x = _along(x, axis, basis.T if inverse else basis)
        return x


def _along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """The product of a matrix with every line of ``x`` along ``axis``."""
    return torch.movedim(torch.tensordot(x, matrix, dims=([axis], [1])), -1, axis)


def _cosines(n: int) -> Tensor:
    """The orthonormal discrete cosine transform (DCT-II) as a matrix (n, n), float64."""
    k, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float64)] * 2, indexing="ij")
    basis = torch.cos(math.pi / n * (x + 0.5) * k) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis
