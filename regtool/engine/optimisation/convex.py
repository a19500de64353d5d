"""A first displacement by exhaustive search: for motion beyond what gradients see."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from regtool.engine.optimisation.pyramid import Level
from regtool.losses.mind import mind_ssc
from regtool.spatial.smooth import gaussian

_REACH = 3
"""Displacements up to so many voxels of the level along each axis are tried."""

_COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""How strongly each round holds the choice to the smoothed field of the round before."""


def convex_start(level: Level, sigma: float = 1.0) -> Tensor:
    """Displacement (B, ndim, *S) in voxels of a coarse level.

    Every voxel chooses among all whole displacements within reach by the difference of MIND-SSC
    descriptors; rounds of choosing and smoothing (``sigma`` voxels of the finest axis) follow, in
    which straying from the smoothed field costs more and more. Thick axes are searched less far, as
    their voxels are longer.

    Source: Heinrich et al., MICCAI 2014 (coupled convex optimisation); Siebert et al. 2024
    (ConvexAdam).
    """
    return torch.cat([_one(level, b, sigma) for b in range(level.fixed.image.shape[0])])


def _one(level: Level, b: int, sigma: float) -> Tensor:
    fixed = mind_ssc(level.fixed.image[b : b + 1])
    moving = mind_ssc(level.moving.image[b : b + 1])
    reach = [
        0 if n == 1 else max(1, round(_REACH / h))
        for n, h in zip(level.shape, level.steps, strict=True)
    ]
    moves = list(itertools.product(*[range(-r, r + 1) for r in reach]))
    cost = _costs(fixed, moving, moves, reach)
    table = torch.tensor(moves, dtype=torch.float32, device=fixed.device)
    sigmas = [sigma / h for h in level.steps]
    u = _smoothed(table[cost.argmin(0)], level.shape, sigmas)
    scale = cost.mean()
    lengths = torch.tensor(level.steps, device=fixed.device)
    for coupling in _COUPLING:
        now = u[0].flatten(1)
        best = cost.new_full((cost.shape[1],), float("inf"))
        choice = torch.zeros_like(best, dtype=torch.int64)
        for k, move in enumerate(table):
            apart = ((move[:, None] - now) * lengths[:, None]).square().sum(0)
            total = cost[k] + coupling * scale * apart
            better = total < best
            best = torch.where(better, total, best)
            choice[better] = k
        u = _smoothed(table[choice], level.shape, sigmas)
    return u


def _costs(fixed: Tensor, moving: Tensor, moves: list[tuple[int, ...]], reach: list[int]) -> Tensor:
    """Mean squared difference of descriptors for each move and voxel, (moves, voxels)."""
    shape = fixed.shape[2:]
    padded = F.pad(moving, [r for n in reversed(reach) for r in (n, n)], mode="replicate")
    rows = []
    for move in moves:
        part = padded
        for axis, (by, r, n) in enumerate(zip(move, reach, shape, strict=True)):
            part = part.narrow(axis + 2, r + by, n)
        rows.append((part - fixed).square().mean(1).flatten())
    return torch.stack(rows)


def _smoothed(chosen: Tensor, shape: tuple[int, ...], sigmas: list[float]) -> Tensor:
    return gaussian(chosen.T.reshape(1, -1, *shape), sigmas)
