"""The pairs of one run: opened, prepared or taken from its cache, checked, placed."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from regtool.engine.training.card import examples
from regtool.engine.training.dataset import Splits, cache_key, open_store
from regtool.engine.training.fields import open_source, with_fields
from regtool.engine.training.logs import Progress
from regtool.engine.training.plan import Plan
from regtool.engine.training.runtime import Runtime
from regtool.engine.training.settings import loop_settings
from regtool.engine.training.stop import Stopper
from regtool.engine.training.store import PairStore
from regtool.errors import InputError, Interrupted, UsageError
from regtool.prepare.preparation import Preparation
from regtool.words import counted

log = logging.getLogger("regtool.train")


def prepared_stores(
    folder: Path, splits: Splits, plan: Plan, runtime: Runtime, stopper: Stopper, bar: Progress
) -> tuple[PairStore, PairStore | None]:
    """Training pairs without blank slices, and validation pairs (None if there are none).

    ``splits`` are the cases of both, from ``open_splits``.

    Raises UsageError, InputError, Interrupted.
    """
    settings = plan.settings
    preparation = Preparation.model_validate(plan.preset["preparation"])
    options = loop_settings(plan.preset, plan.chosen[0].name)

    def report(done: int, total: int) -> None:
        if stopper.reason == "signal":
            raise Interrupted(
                "interrupted while preparing the pairs; nothing was trained yet; continue with "
                f"regtool train --resume -o {folder}"
            )
        bar.update(done, total)

    stores = []
    for name, cases in zip(("train", "val"), splits, strict=True):
        bar.start(f"preparing {name} pairs", 0, len(cases))
        with runtime.accelerator.main_process_first():  # the others find its cache
            stores.append(
                open_store(
                    cases,
                    preparation,
                    slices=options.slices,
                    seed=settings.seed,
                    threads=settings.threads or 1,
                    cache=folder / "cache" / f"{name}.safetensors" if options.cache else None,
                    report=report,
                )
            )
    _supply_fields(stores, splits, preparation, plan, folder, runtime, stopper, bar)
    train, val = stores[0].without_blank(), stores[1]
    if not train.items:
        raise InputError("all training pairs are blank after preparation")
    if not options.landmark_folds:
        train = train.without_points()  # what is measured later must not have trained
    elif not train.has_points:
        raise UsageError("landmark_folds: landmarks do not go with slices of volumes")
    lacking = {"dice": not val.has_labels, "tre": not val.has_points}
    if val.items and lacking.get(str(options.select)):
        raise UsageError(
            f"select={options.select}: the validation pairs have no "
            f"{'labels' if options.select == 'dice' else 'landmarks'}"
        )
    if settings.label_loss > 0 and not train.has_labels:
        raise UsageError("--label-loss: the training pairs have no labels")
    log.info(
        "%s (%s), %s",
        counted(len(train.names), "training pair"),
        examples(len(train.items), options.ways),
        counted(len(val.names), "validation pair"),
    )
    if not val.items:
        log.warning("no validation pairs: the last weights are kept instead of the best")
        return _placed(train, runtime.device), None
    return _placed(train, runtime.device), val


def _supply_fields(
    stores: list[PairStore],
    splits: Splits,
    preparation: Preparation,
    plan: Plan,
    folder: Path,
    runtime: Runtime,
    stopper: Stopper,
    bar: Progress,
) -> None:
    """Give each training pair the fields that the chosen stages need, from where they say.

    Validation pairs get them where only the training loss can validate.
    """
    needing = [stage for stage in plan.chosen if "fields" in stage.needs]
    if not needing:
        return
    options = loop_settings(plan.preset, needing[0].name)
    spec, settings = str(options.fields), plan.settings

    def report(done: int, total: int) -> None:
        if stopper.reason == "signal":
            again = "--overwrite" if plan.replacing else "--resume"
            raise Interrupted(f"interrupted while finding fields; {again} goes on from there")
        bar.update(done, total)

    for number, name in enumerate(("train", "val")):
        cases = splits[number]
        unused = name == "val" and stores[1].has_labels and needing[0].registers
        if unused or not cases:
            continue
        bar.start(f"fields of {name} pairs by {spec}", 0, len(cases))
        source = open_source(
            spec, options.fields_options, cases, stores[number], preparation,
            device=str(runtime.device), threads=settings.threads, seed=settings.seed,
            slices=options.slices,
        )  # fmt: skip
        key = cache_key(cases, preparation, options.slices, settings.seed)
        cache = folder / "cache" / f"{name}-fields.safetensors" if options.cache else None
        with runtime.accelerator.main_process_first():
            stores[number] = with_fields(stores[number], source, key, cache, report)


def _placed(store: PairStore, device: torch.device) -> PairStore:
    """On the GPU if it takes a small part of its memory, so that no step waits for a copy."""
    if device.type != "cuda" or store.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return store
    return store.to(device)
