"""The stages of a method's recipe as they are to be trained."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from regtool.engine.training.method_code import checked_stages
from regtool.engine.training.settings import RunSettings
from regtool.errors import PluginError, UsageError
from regtool.plugins import discovery
from regtool.plugins.charge import charged
from regtool.plugins.description import Method
from regtool.plugins.training import Schedule, Stage
from regtool.words import counted

SCHEDULES = typing.get_args(typing.get_type_hints(Schedule)["kind"])
"""What a learning rate can do."""


def recipe_stages(method: Method, preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The recipe's stages as the preset has them. Raises UsageError, PluginError."""
    if method.recipe is None:
        raise UsageError(f"method {method.name!r} has nothing to train")
    recipe = discovery.resolve_import(method.recipe, f"recipe of method '{method.name}'")
    with charged(f"recipe of method '{method.name}'"):
        answer = recipe(preset)
    stages = checked_stages(answer, method.name)
    names = [stage.name for stage in stages]
    if not stages or len(set(names)) != len(names):
        raise PluginError(f"recipe of method '{method.name}': stages need distinct names")
    return stages


def planned(method: Method, settings: RunSettings) -> tuple[Stage, ...]:
    """The recipe's stages, with ``--steps``, ``--lr`` and ``--batch`` applied.

    Of several stages ``--steps`` alone shortens each to that many, for a trial; the others need
    ``--stage``, because a rate or a batch that suits one stage seldom suits the next.
    """
    stages = recipe_stages(method, settings.preset)
    if len(stages) > 1 and settings.stage is None:
        for option in ("lr", "batch"):
            if getattr(settings, option) is not None:
                raise UsageError(_which(option, method, settings, stages))
        most = settings.steps
        return tuple(
            dataclasses.replace(s, steps=min(s.steps, most)) if most else s for s in stages
        )
    return tuple(_changed(s, settings) if settings.stage in (None, s.name) else s for s in stages)


def _which(option: str, method: Method, settings: RunSettings, stages: Sequence[Stage]) -> str:
    names = ", ".join(stage.name for stage in stages)
    text = f"--{option}: method {method.name!r} trains in stages; say which with --stage ({names})"
    first = settings.preset.get("training", {}).get("slices_first")
    if first is None:
        return text
    own = f"--set slices_first.{option}=N and " if option in first else ""
    return f"{text}, or change both with {own}--set {option}=N"


def in_words(stages: Sequence[Stage], preset: Mapping[str, Any]) -> str:
    """How many steps each stage has, and what changes them."""
    text = "stages: " + ", ".join(
        f"{stage.name} {counted(stage.steps, 'step')}" for stage in stages
    )
    if len(stages) > 1 and preset.get("training", {}).get("slices_first") is not None:
        text += " (--set slices_first.steps=N and steps=N change them)"
    return text


def _changed(stage: Stage, settings: RunSettings) -> Stage:
    optimisers = stage.optimisers
    if settings.lr is not None and optimisers:
        ratio = settings.lr / optimisers[0].lr  # several optimisers keep their relation
        optimisers = tuple(dataclasses.replace(o, lr=o.lr * ratio) for o in optimisers)
    return dataclasses.replace(
        stage,
        optimisers=optimisers,
        steps=settings.steps or stage.steps,
        batch=settings.batch or stage.batch,
    )


def choose(stages: tuple[Stage, ...], name: str | None, method: Method) -> tuple[Stage, ...]:
    """Those that are to be trained: all, or the one of that name. Raises UsageError."""
    if name is None:
        return stages
    for stage in stages:
        if stage.name == name:
            return (stage,)
    raise UsageError(
        f"--stage {name}: method {method.name!r} has {', '.join(s.name for s in stages)}"
    )


def check(stage: Stage, processes: int, fields: str | None) -> None:
    """Whether a stage can be trained as asked. Raises UsageError, PluginError."""
    unknown = [need for need in stage.needs if need != "fields"]
    if unknown:
        raise UsageError(
            f"stage {stage.name!r} needs {', '.join(unknown)} as input, which train does not supply"
        )
    if "fields" in stage.needs and fields is None:
        raise UsageError(
            f"stage {stage.name!r} needs fields: --set fields=METHOD, METHOD@WEIGHTS or the folder "
            "of a cohort's records"
        )
    for problem in _problems(stage):
        raise UsageError(f"stage {stage.name!r}: {problem}")
    if stage.batch % processes:
        raise UsageError(f"--batch {stage.batch}: not divisible among {processes} processes")


def _problems(stage: Stage) -> Iterator[str]:
    """What of a stage's numbers, which ``--set`` may have changed, cannot be trained with."""
    for name, value in (("steps", stage.steps), ("batch", stage.batch)):
        if value < 1:
            yield f"{name} {value}: must be at least 1"
    if stage.ema is not None and not 0 <= stage.ema < 1:
        yield f"ema {stage.ema:g}: must be none, or a number from 0 to below 1"
    for optimiser in stage.optimisers:
        if not 0 < optimiser.lr < math.inf:
            yield f"lr {optimiser.lr:g}: must be a number above zero"
        if optimiser.schedule.kind not in SCHEDULES:
            yield f"schedule.kind {optimiser.schedule.kind!r}: choose one of {', '.join(SCHEDULES)}"
