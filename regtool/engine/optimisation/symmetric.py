"""Both images moved half way: a registration that exchanging the images inverts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regtool.engine.optimisation.compositive import Stepper
from regtool.engine.optimisation.convergence import Best, Convergence, Tick
from regtool.engine.optimisation.objective import Objective, along
from regtool.spatial.compose import compose
from regtool.spatial.invert import invert
from regtool.spatial.resize import resize
from regtool.spatial.warp import pull_displaced


@dataclass
class Halves:
    """Displacements (B, ndim, *S) from the space half way to the fixed and the moving image."""

    fixed: Tensor
    moving: Tensor

    def resized(self, shape: tuple[int, ...]) -> Halves:
        """Both on another grid over the same corners."""
        return Halves(resize(self.fixed, shape), resize(self.moving, shape))

    def whole(self) -> tuple[Tensor, Tensor]:
        """Displacement from the fixed to the moving image, and the one back."""
        back_fixed, back_moving = invert(self.fixed)[0], invert(self.moving)[0]
        return compose(self.moving, back_fixed), compose(self.fixed, back_moving)


def symmetric(halves: Halves, objective: Objective, count: int, tick: Tick) -> Halves:
    """At most ``count`` steps of both halves, each as in ``compositive`` and half as long.

    Masks are warped with their images. Source: Avants et al. 2008 (SyN), with the forces of greedy.
    """
    settings = objective.settings
    stepper = Stepper(settings, objective.level.steps)
    watch = Convergence(settings.patience, settings.tolerance)
    a, b = halves.fixed, halves.moving
    best = Best(a, b)
    for number in range(count + 1):
        values, da, db = _forces(a, b, objective, stepper)
        best.offer(values, a, b)
        if number == count or watch.add(values).all():
            break
        tick()
        share = stepper.shortened(values)
        da, db = da * share, db * share
        a = stepper.total(da + pull_displaced(a, da))
        b = stepper.total(db + pull_displaced(b, db))
    return Halves(*best.fields)


def _forces(
    a: Tensor, b: Tensor, objective: Objective, stepper: Stepper
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (B,) half way, and a step for each side."""
    fixed, moving = pull_displaced(objective.fixed, a), pull_displaced(objective.moving, b)
    weight = _weight(a, b, objective)
    values, slope = objective.gradient(fixed, moving, weight)
    db = stepper.step(along(slope, moving))
    other, slope = objective.gradient(moving, fixed, weight)
    da = stepper.step(along(slope, fixed))
    return (values + other) / 2, da * 0.5, db * 0.5


def _weight(a: Tensor, b: Tensor, objective: Objective) -> Tensor | None:
    fixed, moving = objective.masks
    parts = [pull_displaced(m, u) for m, u in ((fixed, a), (moving, b)) if m is not None]
    return None if not parts else parts[0] if len(parts) == 1 else parts[0] * parts[1]
