"""A table of pairs, registered into a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from regtool.data.cases import PairCase
from regtool.data.readers import open_data
from regtool.engine.cohort.outcome import Outcome, Tally, medians, summary
from regtool.engine.cohort.pipeline import Pipeline
from regtool.engine.cohort.plan import Item, plan, shard
from regtool.engine.cohort.ranks import Ranks
from regtool.engine.device import limited_threads
from regtool.engine.preflight import check_request
from regtool.engine.request import Request, located
from regtool.errors import UsageError
from regtool.imaging.destination import check_folder
from regtool.imaging.writing import Outputs
from regtool.paths import expanded
from regtool.plugins import discovery
from regtool.record import SUFFIX

Told = Callable[[int, int, Outcome], None]


@dataclass(frozen=True)
class Cohort:
    """Pairs, what is asked of all of them, and where their files go."""

    items: list[Item]
    template: Request
    folder: Path
    name: str
    ranks: Ranks


def open_cohort(
    pairs: str | Sequence[PairCase], folder: str | Path, template: Request, which: str | None = None
) -> Cohort:
    """Read a table (or ``READER:PATH``) and find out what is to be done; nothing is computed.

    The files of ``template`` do not count. ``which``: ``i/n``, a share of the pairs.
    Raises InputError for an unreadable table, UsageError, OutputError, DeviceError; PluginError for
    a method that is not there, or lacks its tool.
    """
    method = discovery.load(template.method)
    template = located(template, method)
    rows = open_data(pairs, False, "--pairs") if isinstance(pairs, str) else pairs
    place = expanded(folder)
    check_folder(place)
    ranks = Ranks.of_environment()
    template = replace(template, device=ranks.device(template.device))
    check_request(template, method)
    items = ranks.share(shard(plan(rows, template, place), which))
    name = "cohort" if which is None else f"cohort-{which.replace('/', '-of-')}"
    return Cohort(items, template, place, name, ranks)


def run_cohort(cohort: Cohort, told: Told | None = None) -> dict[str, Any]:
    """Register what is not complete; the summary, which ``FOLDER/cohort.json`` holds, too.

    The first of several processes has the ``medians`` of all their pairs in it.

    ``told(done, total, outcome)`` is called after each pair, from any thread. Failed pairs are in
    the summary; only what would stop all pairs alike is raised.
    """
    start = time.perf_counter()
    tally = Tally(len(cohort.items), told)
    todo = []
    for item in cohort.items:
        if item.error is not None:
            tally.add(Outcome(item.name, "failed", item.error, UsageError.exit_code))
        elif item.complete:
            tally.add(Outcome(item.name, "skipped"))
        else:
            todo.append(item)
    if todo:
        cohort.folder.mkdir(parents=True, exist_ok=True)
        # One core is left to reading and writing; with all of them the network waits for it.
        with limited_threads(cohort.template.threads or max(1, torch.get_num_threads() - 1)):
            Pipeline(cohort.template, tally).run(todo)
    outcomes = cohort.ranks.gather(tally.outcomes)
    result = summary(outcomes, time.perf_counter() - start)
    if cohort.ranks.rank == 0:
        result["medians"] = medians(
            cohort.folder / f"{one.name}_{SUFFIX}" for one in outcomes if one.state != "failed"
        )
        _write(cohort, result)
    return result


def _write(cohort: Cohort, result: dict[str, Any]) -> None:
    name = f"{cohort.name}.json"
    with Outputs(f"{cohort.folder}{os.sep}", record=name, overwrite=True) as outputs:
        outputs.record({**result, "command": list(cohort.template.command)})
