"""Looking at a sampling while it runs: how good the estimate is, and whether it still moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as default

from torch import Tensor

from regtool.diffusion.guidance import Steering
from regtool.diffusion.sampling import Look, Step
from regtool.diffusion.scale import FieldScale
from regtool.losses.ncc import local_ncc
from regtool.losses.ssim import ssim_loss
from regtool.spatial.jacobian import folds, jacobian_determinant
from regtool.spatial.warp import warp

SCORES = ("step", "t", "local_ncc", "ssim", "change", "sd_jacobian", "folds_percent")
"""Columns of a look: the step's number from 1, its level, mean squared local correlation (window 9)
and SSIM of fixed and warped image, mean change of the displacement since the last look over its
mean length, SD of the Jacobian determinant and folds (central differences)."""


@dataclass
class Plateau:
    """Says when nothing is won any more.

    ``patience`` looks in a row, at levels below ``below``, have raised the best score by less than
    ``gain`` altogether, or have each changed the field by less than ``change`` (relative).
    """

    patience: int = 3
    gain: float = 1e-3
    change: float = 0.01
    below: int = 1500
    _best: list[float] = default(default_factory=list)
    _changes: list[float] = default(default_factory=list)

    def judge(self, t: int, score: float, change: float) -> str | None:
        """Take in a look; ``"similarity"`` or ``"change"`` when that has come to rest."""
        if t >= self.below:
            return None
        self._best.append(max([score, *self._best[-1:]]))
        self._changes.append(change)
        if len(self._best) > self.patience and (
            self._best[-1] - self._best[-1 - self.patience] < self.gain
        ):
            return "similarity"
        latest = self._changes[-self.patience :]
        if len(latest) == self.patience and all(c < self.change for c in latest):
            return "change"
        return None


@dataclass
class Watch:
    """An observer for ``sample``: looks every ``every`` steps and at the last one.

    ``fixed`` and ``moving`` (B or 1, 1, *S) in [0, 1] score the displacement of the clean estimate.
    ``rows`` collects ``SCORES`` and the energies of ``steering``; ``frames`` the clean estimates of
    the looks where ``keep`` is set. ``plateau`` may end the sampling once steps count. At every
    look ``tell(scores, displacement)`` is called, and ends the sampling by answering False.
    """

    fixed: Tensor
    moving: Tensor
    field: FieldScale
    every: int = 1
    keep: bool = False
    plateau: Plateau | None = None
    steering: Steering | None = None
    tell: Callable[[dict[str, float], Tensor], bool] | None = None
    rows: list[dict[str, float]] = default(default_factory=list)
    frames: list[Tensor] = default(default_factory=list)
    _before: Tensor | None = None

    def __call__(self, step: Step) -> Look | None:
        if (step.number + 1) % self.every and not step.last:
            return None
        u = self.field.voxels(step.clean)
        scores = self.scores(step, u)
        self.rows.append(scores)
        if self.keep:
            self.frames.append(step.clean.cpu())
        stop = None
        if self.plateau is not None and step.counts:
            stop = self.plateau.judge(step.t, scores["local_ncc"], scores["change"])
        if self.tell is not None and not self.tell(scores, u):
            stop = stop or "requested"
        return Look(scores["local_ncc"], stop)

    def scores(self, step: Step, u: Tensor) -> dict[str, float]:
        """The figures of a step whose displacement is ``u`` (B, ndim, *S) in voxels."""
        fixed = self.fixed.expand(len(u), *self.fixed.shape[1:])
        warped = warp(self.moving, u)
        statistics = [folds(d) for d in jacobian_determinant(u)]
        change = math.nan
        if self._before is not None:
            length = u.norm(dim=1).mean().clamp(min=1e-6)
            change = float((u - self._before).norm(dim=1).mean() / length)
        self._before = u
        figures = (
            step.number + 1.0,
            float(step.t),
            -float(local_ncc(fixed, warped, window=9)),
            1 - float(ssim_loss(fixed, warped)),
            change,
            sum(s.sd for s in statistics) / len(statistics),
            sum(s.percent for s in statistics) / len(statistics),
        )
        found = dict(zip(SCORES, figures, strict=True))
        if self.steering is not None:
            for name, value in self.steering.values(step.clean).items():
                found[name] = float(value.mean())
        return found


def deviation(displacements: Tensor, spacing: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Mean (1, ndim, *S) in voxels and standard deviation (1, 1, *S) in mm of displacements.

    ``displacements`` (K, ndim, *S): samples, in voxels; ``spacing`` in mm by tensor axis. The
    deviation is the root of the summed variances (unbiased) of the components: how far samples lie
    from their mean.
    """
    mm = displacements * displacements.new_tensor(spacing).reshape(
        1, -1, *[1] * (displacements.dim() - 2)
    )
    return displacements.mean(0, keepdim=True), mm.var(0, keepdim=True).sum(1, keepdim=True).sqrt()
