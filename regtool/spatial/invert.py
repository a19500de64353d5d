"""Inversion of a displacement by a safeguarded fixed-point iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.spatial.warp import identity, sample


def invert(
    displacement: Tensor, iterations: int = 50, tolerance: float = 1e-3
) -> tuple[Tensor, float]:
    """Solve ``v(y) + u(y + v(y)) = 0`` on the grid of u.

    ``displacement`` (B, ndim, *S) in voxels; u keeps its border value outside the grid. Returns the
    inverse, same shape, and the largest residual in voxels over all voxels. Every voxel is a small
    problem of its own, so converged voxels (residual below ``tolerance`` voxels) leave the
    iteration. The plain iteration ``v <- -u(y + v)`` (Chen 2008) converges where the gradient of u
    is below one; Anderson mixing of depth one speeds it up, and a voxel whose residual grew goes
    back to its best value and takes a shorter step. Where u folds no inverse exists and the
    residual says so. Not differentiable.
    """
    with torch.no_grad():
        results = [_invert_one(u[None], iterations, tolerance) for u in displacement.detach()]
    inverse = torch.cat([r[0] for r in results]).to(displacement.dtype)
    return inverse, max(r[1] for r in results)


def _invert_one(u: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, float]:
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    shape = u.shape[2:]
    places = identity(tuple(shape), device=u.device, dtype=u.dtype).flatten(1)
    best = -u[0].flatten(1)
    best_residual = _residual(u, places, best)
    best_norm = best_residual.square().sum(0)
    limit = tolerance**2
    state = _Active(torch.nonzero(best_norm > limit)[:, 0], best, best_residual)
    for _ in range(iterations):
        if not len(state.index):
            break
        trial = state.propose(best, best_residual)
        residual = _residual(u, places[:, state.index], trial)
        norm = residual.square().sum(0)
        better = norm < best_norm[state.index]
        winners = state.index[better]
        best[:, winners] = trial[:, better]
        best_residual[:, winners] = residual[:, better]
        best_norm[winners] = norm[better]
        state.advance(trial, residual, better)
        state.keep(best_norm[state.index] > limit)
    return best.reshape(1, -1, *shape), float(best_norm.max().sqrt())


def _residual(u: Tensor, places: Tensor, v: Tensor) -> Tensor:
    return v + sample(u, (places + v)[None])[0]


class _Active:
    """The voxels still iterating: their last value and residual, and the length of their step."""

    def __init__(self, index: Tensor, value: Tensor, residual: Tensor) -> None:
        self.index = index
        self.value = value[:, index]
        self.residual = residual[:, index]
        self.old_value = self.value
        self.old_residual = self.residual
        self.step = torch.ones_like(self.value[0])
        self.failed = torch.zeros_like(index, dtype=torch.bool)

    def propose(self, best: Tensor, best_residual: Tensor) -> Tensor:
        dv, dr = self.value - self.old_value, self.residual - self.old_residual
        share = (self.residual * dr).sum(0) / dr.square().sum(0).clamp(min=1e-12)
        share = share.clamp(-1.0, 1.0)
        mixed = self.value - self.residual - share * (dv - dr)
        shorter = best[:, self.index] - self.step * best_residual[:, self.index]
        return torch.where(self.failed, shorter, mixed)

    def advance(self, value: Tensor, residual: Tensor, better: Tensor) -> None:
        self.old_value, self.old_residual = self.value, self.residual
        self.value, self.residual = value, residual
        self.failed = ~better
        self.step = torch.where(better, (self.step * 2).clamp(max=1.0), self.step / 2)

    def keep(self, wanted: Tensor) -> None:
        for name in ("value", "residual", "old_value", "old_residual"):
            setattr(self, name, getattr(self, name)[:, wanted])
        self.index, self.step = self.index[wanted], self.step[wanted]
        self.failed = self.failed[wanted]
