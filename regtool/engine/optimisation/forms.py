"""The field that is optimised, in each formulation, on its way through the levels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from regtool.engine.optimisation import adam
from regtool.engine.optimisation.compositive import compositive
from regtool.engine.optimisation.convergence import Tick
from regtool.engine.optimisation.objective import Objective
from regtool.engine.optimisation.settings import Optimisation
from regtool.engine.optimisation.symmetric import Halves, symmetric
from regtool.plugins.exchange import Prediction
from regtool.spatial.compose import compose
from regtool.spatial.integrate import integrate
from regtool.spatial.resize import resize


class Form(Protocol):
    """A field on one level's grid; displacements are (B, ndim, *S) in voxels of it."""

    def resize(self, shape: tuple[int, ...]) -> None:
        """Go on on another grid over the same corners."""

    def search(self, found: Tensor) -> None:
        """Move points by ``found`` before they move as they do now."""

    def descend(self, objective: Objective, count: int, tick: Tick) -> None:
        """At most ``count`` iterations on this level."""

    def prediction(self, shape: tuple[int, ...]) -> Prediction:
        """What there is so far, on a grid of ``shape``."""


def begin(start: Tensor, settings: Optimisation) -> Form:
    """The form that the settings ask for, beginning with a displacement."""
    if settings.symmetric:
        return Symmetric(start)
    return Compositive(start) if settings.formulation == "compositive" else Adam(start, settings)


class Compositive:
    """A displacement that steps are composed with."""

    def __init__(self, start: Tensor) -> None:
        self.u = start

    def resize(self, shape: tuple[int, ...]) -> None:
        self.u = resize(self.u, shape)

    def search(self, found: Tensor) -> None:
        self.u = compose(self.u, found)

    def descend(self, objective: Objective, count: int, tick: Tick) -> None:
        self.u = compositive(self.u, objective, count, tick)

    def prediction(self, shape: tuple[int, ...]) -> Prediction:
        return Prediction(displacement=resize(self.u, shape))


class Symmetric:
    """Two displacements that meet half way; the start belongs to the moving half."""

    def __init__(self, start: Tensor) -> None:
        self.halves = Halves(torch.zeros_like(start), start)

    def resize(self, shape: tuple[int, ...]) -> None:
        self.halves = self.halves.resized(shape)

    def search(self, found: Tensor) -> None:
        self.halves.moving = compose(self.halves.moving, found)

    def descend(self, objective: Objective, count: int, tick: Tick) -> None:
        self.halves = symmetric(self.halves, objective, count, tick)

    def prediction(self, shape: tuple[int, ...]) -> Prediction:
        forth, back = self.halves.resized(shape).whole()
        return Prediction(displacement=forth, inverse=back)


class Adam:
    """A displacement, or a velocity whose integral comes before a fixed start."""

    def __init__(self, start: Tensor, settings: Optimisation) -> None:
        self.settings = settings
        self.base: Tensor | None = None
        self.field = start
        if settings.formulation == "velocity":
            self.field = torch.zeros_like(start)
            self.base = start if start.any() else None

    def resize(self, shape: tuple[int, ...]) -> None:
        self.field = resize(self.field, shape)
        self.base = None if self.base is None else resize(self.base, shape)

    def search(self, found: Tensor) -> None:
        if self.settings.formulation == "velocity":
            self.base = found if self.base is None else compose(self.base, found)
        else:
            self.field = compose(self.field, found)

    def descend(self, objective: Objective, count: int, tick: Tick) -> None:
        self.field = adam.adam(self.field, objective, self.settings, count, tick, self.base)

    def prediction(self, shape: tuple[int, ...]) -> Prediction:
        field = resize(self.field, shape)
        base = None if self.base is None else resize(self.base, shape)
        found = Prediction(displacement=adam.displacement(field, self.settings, base))
        if self.settings.formulation == "velocity" and base is None:
            found.velocity, found.inverse = field, integrate(-field, adam.SQUARINGS)
        return found
