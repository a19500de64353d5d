"""Adam on a displacement, or on the velocity it is integrated from."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.engine.optimisation.convergence import Best, Convergence, Tick
from regtool.engine.optimisation.objective import Objective
from regtool.engine.optimisation.settings import Optimisation
from regtool.spatial.compose import compose
from regtool.spatial.integrate import integrate

_BETAS = (0.9, 0.999)
"""Decay rates of the mean gradient and of its square."""

SQUARINGS = 6


def adam(
    field: Tensor,
    objective: Objective,
    settings: Optimisation,
    count: int,
    tick: Tick,
    base: Tensor | None = None,
) -> Tensor:
    """At most ``count`` steps from ``field`` (B, ndim, *S), a displacement or a velocity.

    A velocity moves points before ``base``, a displacement, moves them on.

    The field with the smallest loss is kept, so that equal images stay exactly where they are,
    though Adam turns rounding errors into full steps. Adam (Kingma & Ba 2015) is written out
    because the first use of ``torch.optim`` imports PyTorch's compiler, which takes a second.
    """
    fields = field.detach().clone()
    best = Best(fields)
    mean, square = torch.zeros_like(fields), torch.zeros_like(fields)
    watch = Convergence(settings.patience, settings.tolerance)
    for step in range(1, count + 1):
        with torch.enable_grad():
            value = _loss(fields.requires_grad_(True), objective, settings, base)
            (gradient,) = torch.autograd.grad(value, fields)
        fields = fields.detach()
        value = value.detach()[None]
        best.offer(value, fields)
        tick()
        if watch.add(value).all():
            return best.fields[0]
        mean.lerp_(gradient, 1 - _BETAS[0])
        square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        scale = (square / (1 - _BETAS[1] ** step)).sqrt_().add_(1e-8)
        rate = settings.rate / (1 - _BETAS[0] ** step)
        fields = fields.addcdiv(mean, scale, value=-rate)  # anew: the best is kept
    with torch.no_grad():
        best.offer(_loss(fields, objective, settings, base)[None], fields)
        return best.fields[0]


def displacement(field: Tensor, settings: Optimisation, base: Tensor | None) -> Tensor:
    """The displacement that a field of ``adam`` stands for."""
    if settings.formulation == "displacement":
        return field
    u = integrate(field, SQUARINGS)
    return u if base is None else compose(base, u)


def _loss(
    field: Tensor, objective: Objective, settings: Optimisation, base: Tensor | None
) -> Tensor:
    return objective.loss(displacement(field, settings, base), field)
