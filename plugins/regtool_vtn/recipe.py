"""Training of VTN: the whole cascade at once; perhaps after its 2-D form on the same slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api.nn import inflate
from regtool.api.train import Context, Optimiser, Pair, Schedule, Stage, StepOutput
from regtool_vtn.loss import CascadeLoss
from regtool_vtn.model import build


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage ``registration``, after ``slices`` if the preset's ``slices_first`` asks."""
    settings = preset["training"]
    loss, first = CascadeLoss(settings), settings.get("slices_first")
    if first is None:

        def make(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
            return build(config)

        return (_stage("registration", settings, make, loss),)
    flat_loss = CascadeLoss({**settings, **first})

    def make_flat(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        return build({**config, "ndim": 2})

    def make_solid(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        solid = build(config)
        inflate(upstream["slices"], solid)
        return solid

    def step_flat(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        return StepOutput(flat_loss(module, pair.slices(), context).terms)

    return (
        _stage("slices", {**settings, **first}, make_flat, step_flat, registers=False),
        _stage("registration", settings, make_solid, loss),
    )


def _stage(
    name: str, settings: Mapping[str, Any], make: Any, step: Any, registers: bool = True
) -> Stage:
    optimiser = Optimiser(
        lr=float(settings["lr"]),
        schedule=Schedule(**settings["schedule"]),
        clip_norm=settings["clip"],
    )
    return Stage(
        name=name,
        build=make,
        step=step,
        optimisers=(optimiser,),
        steps=int(settings["steps"]),
        batch=int(settings["batch"]),
        ema=settings["ema"],
        registers=registers,
    )
