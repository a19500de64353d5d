"""The recipe of methods that train one network: in 3-D perhaps after its 2-D form, on slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from regtool.plugins.exchange import Context, Pair
from regtool.plugins.training import Optimiser, Schedule, Stage, StepOutput

if TYPE_CHECKING:
    from torch import nn

Build = Callable[[Mapping[str, Any]], "nn.Module"]
Step = Callable[["nn.Module", Pair, Context], StepOutput]


def registration_stages(
    settings: Mapping[str, Any],
    build: Build,
    loss: Callable[[Mapping[str, Any]], Step],
    arguments: Mapping[str, Any] | None = None,
    pooled: tuple[str, ...] = (),
) -> tuple[Stage, ...]:
    """The stage ``registration``, after ``slices`` if ``settings["slices_first"]`` asks.

    ``settings`` are a preset's ``training``: ``lr``, ``steps`` and ``batch``, and, where they are
    there, ``schedule``, ``clip`` (largest norm of the gradients), ``ema`` and ``slices_first``.
    The stage ``slices`` trains the network of ``ndim`` 2 on all slices of the volumes (z, y, x) of
    each batch, with the settings that ``slices_first`` has in place of the others; the 3-D network
    starts from it, inflated (``regtool.api.nn.inflate``, which takes ``pooled``). ``build(config)``
    makes the network from a preset, ``loss(settings)`` what a step of a stage with those settings
    computes; ``arguments`` go to Adam.
    """

    def make(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        return build(config)

    first = settings.get("slices_first")
    if first is None:
        return (_stage("registration", settings, make, loss(settings), arguments),)

    def make_flat(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        return build({**config, "ndim": 2})

    def make_solid(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        from regtool.nn.inflate import inflate

        solid = build(config)
        inflate(upstream["slices"], solid, pooled)
        return solid

    flat = {**settings, **first}
    flat_loss = loss(flat)

    def step_flat(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        return StepOutput(flat_loss(module, pair.slices(), context).terms)

    return (
        _stage("slices", flat, make_flat, step_flat, arguments, registers=False),
        _stage("registration", settings, make_solid, loss(settings), arguments),
    )


def _stage(
    name: str,
    settings: Mapping[str, Any],
    make: Callable[[Mapping[str, Any], Mapping[str, nn.Module]], nn.Module],
    step: Step,
    arguments: Mapping[str, Any] | None,
    registers: bool = True,
) -> Stage:
    optimiser = Optimiser(
        lr=float(settings["lr"]),
        schedule=Schedule(**settings.get("schedule", {})),
        arguments=arguments or {},
        clip_norm=settings.get("clip"),
    )
    return Stage(
        name=name,
        build=make,
        step=step,
        optimisers=(optimiser,),
        steps=int(settings["steps"]),
        batch=int(settings["batch"]),
        ema=settings.get("ema"),
        registers=registers,
    )
