"""``regtool register --pairs``: what is said about many pairs, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regtool.cli import common, progress
from regtool.errors import PairsFailed, UsageError
from regtool.words import counted

if TYPE_CHECKING:
    from regtool.engine.cohort.outcome import Outcome
    from regtool.engine.cohort.run import Cohort
    from regtool.engine.request import Request

LISTED = 20
"""Failed pairs that are named; all are in the summary."""


def register_pairs(
    pairs: str,
    output: str | None,
    template: Request,
    shard: str | None,
    given: Mapping[str, object],
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Register a table into a folder; ``given`` are options that belong to a single pair.

    Those that name a file of a pair have a column of the table each.

    Raises UsageError when one of them is there, PairsFailed when pairs failed.
    """
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} belongs to one pair; with --pairs {_instead(name)}")
    if output is None:
        raise UsageError("--pairs needs -o FOLDER, where the files of all pairs go")
    from regtool.engine.cohort.rehearsal import rehearse
    from regtool.engine.cohort.run import open_cohort, run_cohort
    from regtool.engine.reports import check_cohort_report, write_cohort_report

    page = None if template.report is None else Path(template.report)
    if page is not None:
        check_cohort_report(replace(template, output=output))
    cohort = open_cohort(pairs, output, replace(template, report=None), shard)
    if dry_run:
        rehearsed = rehearse(cohort)
        common.print_json(rehearsed)
        failing = [{"name": name, "error": why} for name, why in rehearsed["failing"].items()]
        _raise_for(failing, "would fail")
        return
    common.log.info("%s", _opening(cohort))
    watch = cohort.ranks.rank == 0
    with progress.bar(quiet or not watch) as report:
        result = run_cohort(cohort, _Teller(report, watch))
    if not watch:
        return
    common.log.info(
        "%s: %d registered, %d complete before, %d failed, in %.1f s; see %s",
        counted(result["pairs"], "pair"), result["done"], result["skipped"], len(result["failed"]),
        result["seconds"], cohort.folder / f"{cohort.name}.json",
    )  # fmt: skip
    if result["medians"]:
        common.log.info("medians: %s", _medians(result))
    if page is not None:
        write_cohort_report(cohort.folder, page, result["failed"], template.overwrite)
        common.log.info("wrote %s", page)
    if as_json:
        common.print_json(result)
    again = any(one["code"] != UsageError.exit_code for one in result["failed"])
    advice = "; the same command tries again what failed" if again else ""
    _raise_for(result["failed"], "failed", advice)


def _instead(name: str) -> str:
    """What does for many pairs what an option does for one."""
    if name == "--report-pngs":
        return "leave it out: the page of --report FILE.html shows the worst pairs"
    column = name.removeprefix("--").replace("-", "_").lower()
    return f"use the column {column} of the table"


def _raise_for(failed: list[dict[str, Any]], verb: str, advice: str = "") -> None:
    if not failed:
        return
    for one in failed[:LISTED]:
        common.log.error("%s: %s", one["name"], one["error"].removeprefix(f"{one['name']}: "))
    rest = len(failed) - LISTED
    more = f" ({rest} more are in the summary)" if rest > 0 else ""
    raise PairsFailed(f"{counted(len(failed), 'pair')} {verb}{more}{advice}")


def _medians(result: Mapping[str, Any]) -> str:
    """``local NCC 0.412 before, 0.611 after``, and so on; of how many pairs where not of all."""
    words = {"local_ncc": "local NCC %.3f before, %.3f after", "dice": "Dice %.3f before, %.3f "
             "after", "tre_mm": "TRE %.2f mm before, %.2f after"}  # fmt: skip
    parts = []
    for name, found in result["medians"].items():
        part = words[name] % (found["before"], found["after"])
        fewer = found["n"] < result["done"] + result["skipped"]
        parts.append(part + (f" (of {counted(found['n'], 'pair')})" if fewer else ""))
    return "; ".join(parts)


def _opening(cohort: Cohort) -> str:
    states = [item.complete for item in cohort.items]
    line = f"{counted(len(states), 'pair')}, {sum(states)} complete already"
    if cohort.ranks.count > 1:
        line = f"process {cohort.ranks.rank + 1} of {cohort.ranks.count}: {line}"
    return line


class _Teller:
    """Progress: a bar for a terminal, a line now and then for a log file, failures as they come."""

    def __init__(self, report: Any, watch: bool) -> None:
        self.report, self.watch = report, watch
        self.started = self.last = time.monotonic()
        self.skipped = self.failed = 0
        self.lock = threading.Lock()

    def __call__(self, done: int, total: int, outcome: Outcome) -> None:
        with self.lock:
            self.skipped += outcome.state == "skipped"
            if outcome.state == "failed":
                self.failed += 1
                common.log.debug("failed: %s: %s", outcome.name, outcome.error)
            if self.report is not None:
                self.report("pairs", done, total)
            elif self.watch and done < total and time.monotonic() - self.last > progress.PAUSE:
                self._say(done, total)

    def _say(self, done: int, total: int) -> None:
        self.last = time.monotonic()
        each = (self.last - self.started) / max(1, done - self.skipped)
        minutes = each * (total - done) / 60
        common.log.info(
            "%d of %d pairs, %d failed, about %.0f min left", done, total, self.failed, minutes
        )
