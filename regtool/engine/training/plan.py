"""From a request to a plan: method, preset, stages and settings, with a resumed run's own kept."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

import regtool
from regtool.engine.training.settings import (
    RunSettings,
    apply_overrides,
    differences,
    loop_settings,
    plain,
    read_settings,
)
from regtool.engine.training.stage_plan import check, choose, planned, recipe_stages
from regtool.engine.training.state import CHECKPOINT, read_checkpoint
from regtool.errors import OutputError, PluginError, RegtoolError, UsageError
from regtool.paths import resolved
from regtool.plugins import discovery
from regtool.plugins.description import Method
from regtool.plugins.training import Schedule, Stage
from regtool.prepare.preparation import Preparation

SETTINGS = "settings.json"
_OF_STAGE = ("stage", "steps", "lr", "batch", "init_weights")


@dataclass
class TrainRequest:
    """What ``regtool train`` was asked for. None means not given: on resume the run's own value,
    otherwise the default. ``time_limit`` is in seconds."""

    output: Path
    method: str | None = None
    data: Sequence[str] = ()
    stage: str | None = None
    preset: str | None = None
    steps: int | None = None
    lr: float | None = None
    batch: int | None = None
    val: str | None = None
    resume: bool = False
    overwrite: bool = False
    init_weights: str | None = None
    label_loss: float | None = None
    time_limit: float | None = None
    deterministic: bool | None = None
    assignments: Sequence[str] = ()
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    seed: int | None = None


@dataclass
class Plan:
    """A checked plan. ``stages`` are all of the method's, ``chosen`` those to train now.

    ``resuming``: the folder's run goes on, from a ``checkpoint`` if it left one. ``replacing``: the
    run that is there gives way to this one.
    """

    method: Method
    settings: RunSettings
    stages: tuple[Stage, ...]
    chosen: tuple[Stage, ...]
    resuming: bool
    checkpoint: bool
    replacing: bool

    @property
    def preset(self) -> Mapping[str, Any]:
        """The preset with everything that was set on the command line."""
        return self.settings.preset


def make_plan(request: TrainRequest, processes: int = 1) -> Plan:
    """Check a request against the run folder, the method and its presets.

    Raises UsageError, OutputError (a used folder without ``--resume``), PluginError, InputError.
    """
    folder = request.output
    before = _existing(request)
    if before is None and not request.method:
        raise UsageError("train needs a method: -m METHOD")
    if before is None and not request.data:
        raise UsageError("train needs data: --data READER:PATH, --data pairs.csv or --data phantom")
    method = discovery.load(request.method or (before.method if before else ""))
    settings = _settings(request, before, method, processes)
    if before is not None:
        _compare(folder, before, settings, method)
    _check_preset(method, settings)
    stages = planned(method, settings)
    chosen = choose(stages, settings.stage, method)
    for stage in chosen:
        check(stage, processes, loop_settings(settings.preset, stage.name).fields)
    _check_free(request)  # after what is wrong whatever the folder holds
    resuming = before is not None
    if not resuming and chosen[0] is not stages[0]:
        raise UsageError(
            f"--stage {chosen[0].name}: train the stage {stages[0].name!r} first (--stage "
            f"{stages[0].name}), then run: {_next_line(chosen[0].name, folder)}; or leave --stage "
            "out, which trains all"
        )
    checkpoint = resuming and (folder / CHECKPOINT).exists()
    if before is not None and checkpoint and request.init_weights is not None:
        _refuse_unused_weights(request, before, stages)
    replacing = not resuming and _holds_run(folder)
    if replacing and settings.init_weights is not None:
        start = resolved(settings.init_weights)
        if start.exists() and resolved(folder) in (start, *start.parents):
            raise UsageError(
                f"--init-weights {settings.init_weights}: --overwrite would remove them; name "
                "another folder with -o"
            )
    return Plan(method, settings, stages, chosen, resuming, checkpoint, replacing)


def _existing(request: TrainRequest) -> RunSettings | None:
    """The settings of the run that goes on; None where none is asked for."""
    if not request.resume:
        return None
    if request.overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: give only one")
    if not _is_used(request.output) or not _holds_run(request.output):
        raise UsageError(f"--resume: {request.output} holds no run")
    return read_settings(request.output / SETTINGS)


def _is_used(folder: Path) -> bool:
    return folder.is_dir() and any(not _is_trace(p.name) for p in folder.iterdir())


def _check_free(request: TrainRequest) -> None:
    """Raise OutputError for a folder in which a new run may not begin."""
    folder = request.output
    if request.resume or not _is_used(folder):
        return
    if not request.overwrite:
        if request.stage is not None and _may_follow(request.stage, folder):
            raise OutputError(
                f"{folder}: not empty; if the stage {request.stage!r} shall follow there, run: "
                f"{_next_line(request.stage, folder)} (or replace all with --overwrite, or name "
                "another folder with -o)"
            )
        raise OutputError(
            f"{folder}: not empty; continue the run there with --resume, replace it with "
            "--overwrite, or name another folder with -o"
        )
    if not _holds_run(folder):
        raise OutputError(
            f"{folder}: holds no run that --overwrite could replace; name another folder with -o"
        )


def _check_preset(method: Method, settings: RunSettings) -> None:
    """Raise PluginError for a preset that lacks what training reads of it, UsageError where
    ``--set`` made its preparation wrong."""
    label = f"preset {settings.preset_name!r} of method {method.name!r}"
    if settings.preset.get("ndim") not in (2, 3):
        raise PluginError(f"{label}: its ndim must be 2 or 3")
    preparation = settings.preset.get("preparation")
    try:
        Preparation.model_validate(preparation)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["preparation", *(str(part) for part in first["loc"])])
        own = method.presets.get(settings.preset_name, {}).get("preparation")
        kind = PluginError if plain(own) == preparation else UsageError
        words = first["msg"].removeprefix("Value error, ")
        raise kind(f"{label}: {where}: {words} (got {first['input']!r:.60})") from error


def _refuse_unused_weights(
    request: TrainRequest, before: RunSettings, stages: Sequence[Stage]
) -> None:
    """Raise UsageError where ``--init-weights`` is for another stage than the run's until now, but
    that stage goes on from the checkpoint. (The same stage is compared with its settings.)"""
    if request.stage in (None, before.stage):
        return
    state = read_checkpoint(request.output / CHECKPOINT)[1]
    began = state.stage == (before.stage or stages[0].name)
    same = began and request.init_weights == before.init_weights
    if state.stage == request.stage and not same:
        raise UsageError(
            f"--init-weights: the stage {state.stage!r} goes on from its checkpoint at step "
            f"{state.step} and would not use them; leave them out, or start a new run in another "
            "folder"
        )


def _next_line(stage: str, folder: Path) -> str:
    """The command that trains one more stage of the run in ``folder``."""
    return f"regtool train --resume --stage {stage} -o {shlex.quote(str(folder))}"


def _may_follow(stage: str, folder: Path) -> bool:
    """Whether the run in a folder has a stage of that name and was last asked for another."""
    try:
        there = read_settings(folder / SETTINGS)
        stages = recipe_stages(discovery.load(there.method), there.preset)
    except RegtoolError:
        return False
    return stage != there.stage and stage in {known.name for known in stages}


def _holds_run(folder: Path) -> bool:
    """Whether a run began there: nothing else of that name is ours to replace."""
    return (folder / SETTINGS).exists() or (folder / CHECKPOINT).exists()


def _is_trace(name: str) -> bool:
    """Whether a name tells no more than that a run ended before it began; prepared pairs do."""
    return name in (".lock", "cache") or (name.startswith(".") and name.endswith(".tmp"))


def _settings(
    request: TrainRequest, before: RunSettings | None, method: Method, processes: int
) -> RunSettings:
    """Values given now, else those of the run that is resumed, else the defaults."""
    values: dict[str, Any] = before.model_dump(by_alias=True) if before is not None else {}
    if before is not None and request.stage not in (None, before.stage):
        values |= dict.fromkeys(_OF_STAGE)  # another stage in the same folder has its own
        if before.stage is None and before.steps is not None:  # a trial of all stages stays short
            own = {s.name: s.steps for s in recipe_stages(method, before.preset)}
            values["steps"] = min(before.steps, own.get(str(request.stage), before.steps))
    if before is None or request.preset is not None or request.assignments:
        name = request.preset or (before.preset_name if before else _default_preset(method))
        if name not in method.presets:
            raise UsageError(
                f"--preset {name}: method {method.name!r} has "
                f"{', '.join(method.presets) or 'no presets'}"
            )
        same = before is not None and name == before.preset_name
        base = before.preset if before is not None and same else plain(method.presets[name])
        values |= {"preset_name": name, "preset": apply_overrides(base, list(request.assignments))}
    given = {
        "method": method.name, "data": list(request.data) or None, "val": request.val,
        "stage": request.stage, "steps": request.steps, "lr": request.lr, "batch": request.batch,
        "seed": request.seed, "precision": request.precision, "label_loss": request.label_loss,
        "init_weights": request.init_weights, "deterministic": request.deterministic,
        "device": request.device,
    }  # fmt: skip
    values |= {key: value for key, value in given.items() if value is not None}
    values |= {
        "processes": processes, "regtool": regtool.__version__,
        "torch": torch.__version__, "threads": request.threads or torch.get_num_threads(),
    }  # fmt: skip
    settings = RunSettings(**values)
    for name, value in (("steps", settings.steps), ("batch", settings.batch), ("lr", settings.lr)):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} {value}: must be a number above zero")
    if not 0 <= settings.label_loss < math.inf:
        raise UsageError(f"--label-loss {settings.label_loss:g}: must be a number from zero up")
    return settings


def _in_first(folder: Path, stages: Sequence[Stage]) -> bool:
    """Whether no stage is finished that the run's steps would have to be true of."""
    path = folder / CHECKPOINT
    one = len(stages) == 1 or not path.exists()
    return one or read_checkpoint(path)[1].stage == stages[0].name


def _default_preset(method: Method) -> str:
    if not method.presets or method.recipe is None:
        raise UsageError(f"method {method.name!r} has nothing to train")
    return next(iter(method.presets))


def _compare(folder: Path, before: RunSettings, now: RunSettings, method: Method) -> None:
    found = differences(before, now)
    free = _OF_STAGE if now.stage != before.stage else ()
    if not (folder / CHECKPOINT).exists():
        free = (*free, "init_weights")  # nothing started from the old ones
    found = [text for text in found if text.partition(":")[0] not in free]
    if not found:
        return
    from_here = ""
    if all(text.partition(":")[0] in ("steps", "lr", "batch") for text in found):
        stages = planned(method, now)
        schedules = [o.schedule for s in stages for o in s.optimisers]
        constant = all(s == Schedule(warmup=s.warmup) for s in schedules)
        only_steps = all(text.startswith("steps:") for text in found)
        if only_steps and constant and (now.stage is not None or _in_first(folder, stages)):
            return  # nothing done so far depends on the number of steps
        if len(stages) == 1:  # the checkpoint of a later stage fits no first one
            from_here = f", from its weights with --init-weights {shlex.quote(str(folder))}"
    raise UsageError(
        f"--resume: {folder} was started with other settings ({'; '.join(found[:3])}); repeat "
        f"those, or start a new run in another folder{from_here}"
    )
