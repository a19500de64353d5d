"""What pulls at the displacement on one level: images, labels and landmarks."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.engine.optimisation.pyramid import Level
from regtool.engine.optimisation.settings import Optimisation
from regtool.losses.dice import one_hot, soft_dice
from regtool.losses.mind import mind_ssc
from regtool.losses.mse import mse, mse_gradient
from regtool.losses.mutual_information import mutual_information, mutual_information_gradient
from regtool.losses.ncc import local_ncc, local_ncc_gradient
from regtool.losses.smoothness import bending_energy, diffusion
from regtool.spatial.derivative import central_difference
from regtool.spatial.warp import pull_displaced, sample

_FLAT = 1e-3
"""Products of window variances (sums) below this count as flat: noise does not pull there."""


class Objective:
    """The terms of one level. Displacements (B, ndim, *S) are in its voxels."""

    def __init__(self, level: Level, settings: Optimisation) -> None:
        self.level, self.settings = level, settings
        prepare = mind_ssc if settings.similarity == "mind" else _as_is
        self.fixed, self.moving = prepare(level.fixed.image), prepare(level.moving.image)
        self.masks = level.fixed.mask, level.moving.mask
        self.labels = self._labels() if settings.labels > 0 else []
        self.points = settings.landmarks > 0 and level.fixed.points is not None
        if settings.landmarks > 0 and (level.fixed.points is None or level.moving.points is None):
            raise ValueError("landmarks: both images need points")

    def _labels(self) -> list[int]:
        fixed, moving = self.level.fixed.labels, self.level.moving.labels
        if fixed is None or moving is None:
            raise ValueError("labels: both images need label maps")
        common = set(torch.unique(fixed).tolist()) & set(torch.unique(moving).tolist())
        return sorted(int(v) for v in common if v != 0)

    # -- for compositive steps ------------------------------------------------------------------

    def image_force(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (B,) and what a small ``d`` in ``u(x + d) + d`` would change them by.

        The second, (B, ndim, *S), is the loss's derivative to d. As the warped image W becomes
        ``W(x + d)``, that is its derivative to W times the gradient of W.
        """
        warped = pull_displaced(self.moving, u)
        values, slope = self.gradient(self.fixed, warped, self.weight(u))
        return values, along(slope, warped)

    def gradient(
        self, fixed: Tensor, warped: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) of the similarity and their gradients to the warped channels."""
        kind = self.settings.similarity
        if kind == "ncc":
            window = self.settings.window
            return local_ncc_gradient(fixed, warped, window, weight, eps=_FLAT, neutral=True)
        if kind == "mi":
            return mutual_information_gradient(fixed, warped, self.settings.bins, weight)
        return mse_gradient(fixed, warped, weight)

    def weight(self, u: Tensor) -> Tensor | None:
        """The fixed mask times the warped moving one, (B, 1, *S)."""
        fixed, moving = self.masks
        warped = None if moving is None else pull_displaced(moving, u)
        if fixed is None or warped is None:
            return warped if fixed is None else fixed
        return fixed * warped

    def label_force(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """1 - mean Dice (B,), and its derivative to d as in ``image_force``; label by label."""
        fixed, moving = self.level.fixed.labels, self.level.moving.labels
        assert fixed is not None and moving is not None
        values, force = u.new_ones(u.shape[0]), torch.zeros_like(u)
        axes = tuple(range(1, u.dim()))
        for label in self.labels:
            f, m = one_hot(fixed, [label]), one_hot(moving, [label])
            warped = pull_displaced(m, u)
            both, total = (f * warped).sum(axes), (f.sum(axes) + warped.sum(axes)).clamp(min=1e-6)
            values -= 2 * both / total / len(self.labels)
            shape = (-1, *[1] * (u.dim() - 1))
            slope = -2 * (f / total.view(shape) - (both / total.square()).view(shape))
            force += along(slope / len(self.labels), warped)
        return values, force

    def landmark_force(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mean distance (B,) of landmarks in voxels of the finest axis, and the pull on them.

        The pull is spread over the voxels around each fixed landmark by linear weights.
        """
        distance, residual = self._landmarks(u)
        fixed = self.level.fixed.points
        assert fixed is not None
        return distance.mean(1), _spread(residual, fixed, u)

    def _landmarks(self, u: Tensor) -> tuple[Tensor, Tensor]:
        fixed, moving = self.level.fixed.points, self.level.moving.points
        assert fixed is not None and moving is not None
        at = fixed.to(u).transpose(1, 2)
        residual = at + sample(u, at) - moving.to(u).transpose(1, 2)
        steps = residual.new_tensor(self.level.steps)[:, None]
        return (residual * steps).square().sum(1).clamp(min=1e-12).sqrt(), residual

    # -- for Adam -------------------------------------------------------------------------------

    def loss(self, u: Tensor, regularised: Tensor) -> Tensor:
        """The scalar loss of a displacement; ``regularised`` is what has to be smooth."""
        settings = self.settings
        total = self._similarity(pull_displaced(self.moving, u), self.weight(u))
        if settings.smoothness > 0:
            total = total + settings.smoothness * diffusion(regularised, self.level.steps)
        if settings.bending > 0:
            total = total + settings.bending * bending_energy(regularised, self.level.steps)
        if self.labels:
            fixed, moving = self.level.fixed.labels, self.level.moving.labels
            assert fixed is not None and moving is not None
            total = total + settings.labels * soft_dice(fixed, moving, u, self.labels)
        if self.points:
            total = total + settings.landmarks * self._landmarks(u)[0].mean()
        return total

    def _similarity(self, warped: Tensor, weight: Tensor | None) -> Tensor:
        kind = self.settings.similarity
        if kind == "ncc":
            window = self.settings.window
            return local_ncc(self.fixed, warped, window, weight, eps=_FLAT, neutral=True)
        if kind == "mi":
            return mutual_information(self.fixed, warped, self.settings.bins, weight)
        return mse(self.fixed, warped, weight)


def along(slope: Tensor, warped: Tensor) -> Tensor:
    """Sum over channels of ``slope`` times the gradient of ``warped``, (B, ndim, *S)."""
    ndim = warped.dim() - 2
    parts = [
        (slope * central_difference(warped, axis + 2)).sum(1, keepdim=True)
        if warped.shape[1] > 1
        else slope * central_difference(warped, axis + 2)
        for axis in range(ndim)
    ]
    return torch.cat(parts, 1)


def _as_is(image: Tensor) -> Tensor:
    return image


def _spread(vectors: Tensor, points: Tensor, like: Tensor) -> Tensor:
    """Vectors (B, ndim, N) at voxel coordinates (B, N, ndim), added onto a grid linearly.

    The adjoint of sampling at these points.
    """
    with torch.enable_grad():
        field = torch.zeros_like(like, requires_grad=True)
        read = sample(field, points.to(like).transpose(1, 2))
        return torch.autograd.grad(read, field, vectors)[0]
