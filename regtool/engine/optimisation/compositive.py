"""Small smooth steps composed with the displacement so far: fluid registration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regtool.engine.optimisation.convergence import Best, Convergence, Tick
from regtool.engine.optimisation.objective import Objective
from regtool.engine.optimisation.settings import Optimisation, of_level
from regtool.losses.smoothness import bending_energy, diffusion
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import pull_displaced

_AROUND = 2.0
"""Steps are balanced over this many times their own smoothing."""

_SHORTER = 0.7
"""By what steps shrink after one that made the loss worse."""


def compositive(u: Tensor, objective: Objective, count: int, tick: Tick) -> Tensor:
    """At most ``count`` steps ``u <- G(u(x + d) + d)`` downhill from ``u`` (B, ndim, *S).

    ``d`` is the negative gradient of the loss, smoothed by ``update_sigma`` and scaled so that its
    longest vector has ``rate`` voxels of the finest axis; G smooths by ``total_sigma``. The
    displacement with the smallest loss is returned, for each batch element by itself, so equal
    images stay exactly where they are. ``tick`` is called after each step.

    Source: Yushkevich et al. 2016 (greedy); Christensen et al. 1996 (fluid registration).
    """
    settings = objective.settings
    stepper = Stepper(settings, objective.level.steps)
    watch = Convergence(settings.patience, settings.tolerance)
    best = Best(u)
    for _ in range(count):
        values, d = _update(u, objective, settings, stepper)
        best.offer(values, u)
        tick()
        if watch.add(values).all():
            return best.fields[0]
        d = d * stepper.shortened(values)
        u = stepper.total(d + pull_displaced(u, d))
    best.offer(_update(u, objective, settings, stepper)[0], u)
    return best.fields[0]


def _update(
    u: Tensor, objective: Objective, settings: Optimisation, stepper: Stepper
) -> tuple[Tensor, Tensor]:
    """The loss of ``u`` (B,) and the step from there."""
    values, force = objective.image_force(u)
    if settings.smoothness > 0 or settings.bending > 0:
        more, pull = _regulariser(u, objective, settings)
        values, force = values + more, force + pull
    parts = [stepper.step(force)]
    if objective.labels:
        error, force = objective.label_force(u)
        parts.append(stepper.step(force) * column(settings.labels * (4 * error).clamp(max=1), u))
        values = values + settings.labels * error
    if objective.points:
        distance, force = objective.landmark_force(u)
        share = settings.landmarks * distance.clamp(max=1)
        parts.append(stepper.step(force, metric=False) * column(share, u))
        values = values + settings.landmarks * distance
    return values, parts[0] if len(parts) == 1 else stepper.limited(sum(parts[1:], parts[0]))


def _regulariser(u: Tensor, objective: Objective, settings: Optimisation) -> tuple[Tensor, Tensor]:
    """Energies of each batch element, and their derivative to u."""
    steps = objective.level.steps
    with torch.enable_grad():
        free = u.detach().requires_grad_(True)
        values = torch.stack(
            [
                settings.smoothness * diffusion(free[b : b + 1], steps)
                + settings.bending * bending_energy(free[b : b + 1], steps)
                for b in range(len(free))
            ]
        )
        (pull,) = torch.autograd.grad(values.sum(), free)
    return values.detach(), pull


class Stepper:
    """Turns derivatives of a loss into smooth steps of known length, on one level's grid.

    ``steps``: voxel sizes in units of the finest axis. Derivatives per voxel become steps in voxels
    as lengths in space ask: a thick slice has a small derivative per length, and a step through it
    is a small part of a voxel.
    """

    def __init__(self, settings: Optimisation, steps: Sequence[float]) -> None:
        self.rate, self.balance = settings.rate, settings.balance
        self.share: Tensor | None = None
        self.before: Tensor | None = None
        self.steps = tuple(steps)
        self.update_sigma = [of_level(settings.update_sigma) / h for h in steps]
        self.total_sigma = [of_level(settings.total_sigma) / h for h in steps]

    def step(self, force: Tensor, metric: bool = True) -> Tensor:
        """The step downhill (B, ndim, *S), in voxels, for a force per voxel.

        With ``metric`` off the force is a displacement in voxels already, and not balanced.
        """
        if metric:
            for axis, h in enumerate(self.steps):
                if h != 1:
                    force[:, axis] *= 1 / h**2
        smooth = gaussian(force, self.update_sigma)
        if metric and self.balance > 0:
            self._even(smooth)
        return smooth.mul_(column(-self.rate / self.longest(smooth).clamp(min=1e-30), smooth))

    def _even(self, d: Tensor) -> None:
        """Divide steps, in place, by how long they are around, so that all regions keep pace.

        The strongest contrast would otherwise set the pace, and regions of weak contrast be left
        behind when it has converged. A part of the longest step is added, which keeps noise small.
        """
        square = self._square(d)[:, None]
        longest = square.flatten(1).amax(1).sqrt() * (1 / self.balance - 1)
        around = gaussian(square, [_AROUND * s for s in self.update_sigma], truncate=2).sqrt_()
        d /= around.add_(column(longest, d)).clamp_(min=1e-30)

    def shortened(self, values: Tensor) -> Tensor:
        """Factor (B, 1, ...) of the next steps: smaller after each that made the loss worse.

        Steps of constant length would go round a minimum for ever.
        """
        if self.share is None or self.before is None:
            self.share = torch.ones_like(values)
        else:
            self.share = torch.where(values > self.before, self.share * _SHORTER, self.share)
        self.before = values
        return column(self.share, values.new_empty((1,) * (len(self.steps) + 2)))

    def limited(self, d: Tensor) -> Tensor:
        """``d`` with no vector longer than the rate."""
        return d * column((self.rate / self.longest(d).clamp(min=1e-30)).clamp(max=1), d)

    def total(self, u: Tensor) -> Tensor:
        """The displacement smoothed as a whole."""
        return gaussian(u, self.total_sigma) if any(self.total_sigma) else u

    def longest(self, d: Tensor) -> Tensor:
        """Length of the longest vector of each batch element, in voxels of the finest axis."""
        return self._square(d).flatten(1).amax(1).sqrt()

    def _square(self, d: Tensor) -> Tensor:
        """Squared length of each vector (B, *S), in voxels of the finest axis."""
        square = (d[:, 0] * self.steps[0]).square_()
        for axis in range(1, d.shape[1]):
            square.addcmul_(d[:, axis], d[:, axis], value=self.steps[axis] ** 2)
        return square


def column(values: Tensor, like: Tensor) -> Tensor:
    """Values (B,) ready to multiply (B, ndim, *S)."""
    return values.to(like).view(-1, *[1] * (like.dim() - 1))
