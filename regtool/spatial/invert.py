"""Inversion of a displacement by an accelerated fixed-point iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.spatial.warp import identity, sample


def invert(
    displacement: Tensor,
    iterations: int = 50,
    tolerance: float = 1e-3,
    start: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Solve ``v(y) + u(y + v(y)) = 0`` on the grid of u.

    ``displacement`` (B, ndim, *S) in voxels; u keeps its border value outside the grid. Returns the
    inverse, same shape, and the largest residual in voxels over all voxels. ``start`` (same shape)
    is where to begin, for a method that knows its inverse nearly; -u without it. Every voxel is a
    small problem of its own, so converged voxels (residual below ``tolerance`` voxels) leave the
    iteration. The plain iteration ``v <- -u(y + v)`` (Chen 2008) converges where the gradient of u
    is below one; Anderson mixing of depth one makes it faster and converges further. The few voxels
    left after ``iterations`` get as many half steps. Where u folds no inverse exists; the best
    value seen is kept and the residual says so. Not differentiable.
    """
    with torch.no_grad():
        u = displacement.detach()
        v = -u if start is None else start.detach().to(u)
        results = [
            _invert_one(a[None], b[None], iterations, tolerance) for a, b in zip(u, v, strict=True)
        ]
    inverse = torch.cat([r[0] for r in results]).to(displacement.dtype)
    return inverse, max(r[1] for r in results)


def _invert_one(
    u: Tensor, start: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, float]:
    dtype = torch.promote_types(u.dtype, torch.float32)
    u, start = u.to(dtype), start.to(dtype)
    shape = u.shape[2:]
    problem = _Problem(u, start, tolerance)
    problem.iterate(iterations, mixing=True)
    problem.iterate(iterations, mixing=False)
    return problem.best.reshape(1, -1, *shape), float(problem.norm.max().sqrt())


class _Problem:
    """The best value, residual and squared residual of every voxel, all flattened."""

    def __init__(self, u: Tensor, start: Tensor, tolerance: float) -> None:
        self.u = u
        self.limit = tolerance**2
        self.places = identity(tuple(u.shape[2:]), device=u.device, dtype=u.dtype).flatten(1)
        self.best = start[0].flatten(1).clone()
        self.residual = self._residual(self.places, self.best)
        self.norm = self.residual.square().sum(0)

    def _residual(self, places: Tensor, v: Tensor) -> Tensor:
        return v + sample(self.u, (places + v)[None])[0]

    def iterate(self, iterations: int, mixing: bool) -> None:
        """Run on the voxels above the tolerance, from their best value; keep what is better."""
        index = torch.nonzero(self.norm > self.limit)[:, 0]
        places = self.places[:, index]
        v, r = self.best[:, index], self.residual[:, index]
        old_v, old_r = v, r
        for _ in range(iterations):
            if not len(index):
                return
            new = _mixed(v, r, old_v, old_r) if mixing else v - 0.5 * r
            old_v, old_r, v, r = v, r, new, self._residual(places, new)
            norm = r.square().sum(0)
            better = norm < self.norm[index]
            winners = index[better]
            self.best[:, winners], self.residual[:, winners] = v[:, better], r[:, better]
            self.norm[winners] = norm[better]
            left = norm > self.limit
            index, places, v, r = index[left], places[:, left], v[:, left], r[:, left]
            old_v, old_r = old_v[:, left], old_r[:, left]


def _mixed(v: Tensor, r: Tensor, old_v: Tensor, old_r: Tensor) -> Tensor:
    """Anderson mixing of the last two iterates, voxel by voxel; components are the first axis."""
    dv, dr = v - old_v, r - old_r
    share = (r * dr).sum(0) / dr.square().sum(0).clamp(min=1e-12)
    return v - r - share.clamp(-1.0, 1.0) * (dv - dr)
