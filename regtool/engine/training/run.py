"""``train``: from a request to a run folder with finished weights."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from regtool.engine.training.checkpoint import sweep
from regtool.engine.training.dataset import open_splits
from regtool.engine.training.dimension import dimension_check
from regtool.engine.training.folds import hold_out
from regtool.engine.training.lock import locked
from regtool.engine.training.logs import Progress, ProgressLines
from regtool.engine.training.plan import SETTINGS, Plan, TrainRequest, make_plan
from regtool.engine.training.runtime import Runtime, start_runtime
from regtool.engine.training.settings import (
    RunSettings,
    loop_settings,
    read_settings,
    write_settings,
)
from regtool.engine.training.stage_plan import in_words
from regtool.engine.training.stages import Run, TrainResult
from regtool.engine.training.state import CHECKPOINT
from regtool.engine.training.stop import Stopper
from regtool.errors import Interrupted, RegtoolError

__all__ = ["TrainRequest", "TrainResult", "train"]

log = logging.getLogger("regtool.train")

_OWN = ("log.csv", CHECKPOINT)  # the settings mark a run, so the new ones take their place
_OWN_FOLDERS = ("tensorboard", "stages", "weights")  # the cache has a key of its own


def train(request: TrainRequest, progress: Progress | None = None) -> TrainResult:
    """Train a method as requested; see ``TrainRequest``. ``progress`` shows how far it is; without
    it the log says so now and then.

    Returns when all chosen stages are finished or the time limit is reached (``ending`` tells);
    raises Interrupted after writing a checkpoint on SIGINT or SIGTERM, and RegtoolError for all
    expected failures.
    """
    before = _stored(request)
    request = replace(
        request,
        threads=request.threads or (before.threads if before else None),
        device=request.device or (before.device if before else "auto"),
        precision=request.precision or (before.precision if before else "fp32"),
        deterministic=bool(before and before.deterministic)
        if request.deterministic is None
        else request.deterministic,
    )
    with Stopper(request.time_limit) as stopper:
        runtime = start_runtime(
            str(request.device),
            str(request.precision),
            request.threads,
            bool(request.deterministic),
            str(request.output),
        )
        if not runtime.main:
            logging.getLogger("regtool").setLevel(logging.ERROR)
            return _train(request, runtime, stopper, ProgressLines())
        with locked(request.output):
            return _train(request, runtime, stopper, progress or ProgressLines())


def _stored(request: TrainRequest) -> RunSettings | None:
    """Settings of the run that is to be resumed."""
    path = request.output / SETTINGS
    return read_settings(path) if request.resume and path.exists() else None


def _train(
    request: TrainRequest, runtime: Runtime, stopper: Stopper, progress: Progress
) -> TrainResult:
    plan = make_plan(request, runtime.world)
    if request.preset is None and not plan.resuming and len(plan.method.presets) > 1:
        others = ", ".join(n for n in plan.method.presets if n != plan.settings.preset_name)
        log.info("preset %s; --preset may also be %s", plan.settings.preset_name, others)
    if len(plan.stages) > 1:
        log.info("%s", in_words(plan.chosen, plan.preset))
    check = dimension_check(plan)
    splits = open_splits(plan.settings.data, plan.settings.val, check)  # before any replacing
    splits = hold_out(splits, loop_settings(plan.preset, plan.chosen[0].name))
    runtime.accelerator.wait_for_everyone()
    begins = runtime.main and not (plan.resuming or plan.replacing)
    if begins:
        write_settings(request.output / SETTINGS, plan.settings)
    run = Run(request.output, plan, runtime, stopper, progress)
    rehearses = plan.replacing or (not plan.resuming and plan.settings.init_weights is not None)
    first = not plan.stages[0].needs  # else it is built from what is prepared
    try:
        if rehearses and first:
            run.rehearse()
        train_store, val_store = run.prepare(splits)
        if rehearses and not first:
            run.rehearse()
    except RegtoolError as error:
        if begins and not isinstance(error, Interrupted):
            # Nothing has begun: the corrected command shall not find a run in its way.
            (request.output / SETTINGS).unlink(missing_ok=True)
        raise
    if runtime.main:
        _make_folder(request.output, plan)
    runtime.accelerator.wait_for_everyone()
    return run.go(train_store, val_store)


def _make_folder(folder: Path, plan: Plan) -> None:
    """Settings of a run that is now known to start, where an older one may have to go."""
    if plan.replacing:
        for name in _OWN_FOLDERS:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
        for name in _OWN:
            (folder / name).unlink(missing_ok=True)
    for place in (folder, folder / "stages", folder / "cache", *(folder / "weights").glob("*")):
        if place.is_dir():
            sweep(place)
    write_settings(folder / SETTINGS, plan.settings)
