"""The divergence of VoxelMorph-diff between its velocity posterior and a smooth prior."""

from __future__ import annotations

import torch
from torch import Tensor


def velocity_kl(mean: Tensor, log_variance: Tensor, prior: float = 10.0) -> Tensor:
    """KL of ``N(mean, exp(log_variance))`` from the prior of precision ``prior * Laplacian``.

    ``0.5 * ndim * (mean(prior * D * exp(logvar) - logvar) + prior * P)``: D is the number of grid
    neighbours of a voxel, ``P = 0.5 *`` the mean over axes of the mean squared neighbour difference
    of the mean velocity. Both tensors (B, ndim, *S). Returns a scalar without the constant.
    Source: Dalca 2019, equation 5, as in the authors' code (METHODS 8.2).
    """
    ndim = mean.shape[1]
    degree = _neighbours(tuple(mean.shape[2:]), mean)
    variance = (prior * degree * log_variance.exp() - log_variance).mean()
    terms = [
        torch.diff(mean, dim=a).square().mean() for a in range(2, 2 + ndim) if mean.shape[a] > 1
    ]
    precision = 0.5 * sum(terms, start=mean.new_zeros(())) / ndim
    return 0.5 * ndim * (variance + prior * precision)


def _neighbours(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Number of face neighbours of every voxel, (*shape)."""
    degree = torch.zeros(shape, dtype=like.dtype, device=like.device)
    for axis, n in enumerate(shape):
        line = torch.full((n,), 2.0, dtype=like.dtype, device=like.device)
        line[0] -= 1
        line[-1] -= 1
        degree += line.reshape(-1, *[1] * (len(shape) - 1 - axis))
    return degree
