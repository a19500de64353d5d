"""The pairs of one run: opened, prepared or taken from its cache, checked, placed."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from regtool.engine.training.dataset import Splits, open_store
from regtool.engine.training.logs import ProgressBar
from regtool.engine.training.plan import Plan
from regtool.engine.training.runtime import Runtime
from regtool.engine.training.settings import loop_settings
from regtool.engine.training.stop import Stopper
from regtool.engine.training.store import PairStore
from regtool.errors import InputError, Interrupted, UsageError
from regtool.prepare.preparation import Preparation

log = logging.getLogger("regtool.train")


def prepared_stores(
    folder: Path, splits: Splits, plan: Plan, runtime: Runtime, stopper: Stopper, bar: ProgressBar
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
            raise Interrupted("interrupted while preparing the pairs; nothing was trained yet")
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
    train, val = stores[0].without_blank(), stores[1]
    if not train.items:
        raise InputError("all training pairs are blank after preparation")
    if settings.label_loss > 0 and not train.has_labels:
        raise UsageError("--label-loss: the training pairs have no labels")
    log.info(
        "%d training pairs (%d examples in both directions), %d validation pairs",
        len(train.names),
        2 * len(train.items),
        len(val.names),
    )
    if not val.items:
        log.warning("no validation pairs: the last weights are kept instead of the best")
        return _placed(train, runtime.device), None
    return _placed(train, runtime.device), val


def _placed(store: PairStore, device: torch.device) -> PairStore:
    """On the GPU if it takes a small part of its memory, so that no step waits for a copy."""
    if device.type != "cuda" or store.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return store
    return store.to(device)
