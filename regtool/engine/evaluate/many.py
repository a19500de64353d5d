"""Many registrations: each measured, summarised by run, and runs compared pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from regtool.engine.device import choose_device
from regtool.engine.evaluate.compare import compare, summary
from regtool.engine.evaluate.items import Item
from regtool.engine.evaluate.overlap import unmeasured
from regtool.engine.evaluate.pair import evaluate_record
from regtool.engine.evaluate.settings import Settings
from regtool.errors import in_a_line

SCHEMA = 1

Told = Callable[[int, int], None]


def evaluate_all(
    items: Sequence[Item], settings: Settings, told: Told | None = None, strict: bool = False
) -> dict[str, Any]:
    """Evaluate every item; plain data, ready for JSON.

    ``pairs``: what ``evaluate_record`` returns. ``failed``: name, run and error of each pair that
    could not be measured; ``strict`` raises the first such error instead. ``summary``: by run, n,
    mean, SD, median and quartiles of every number, before and after. ``comparison``: see
    ``compare``. ``notes``: sentences about all of them. ``told(done, total)`` is called after each.
    Raises UsageError or DeviceError for a device that makes no sense or is not there.
    """
    choose_device(settings.device)  # a device that is not there fails once, not for each pair
    pairs, failed = [], []
    for done, item in enumerate(items, start=1):
        try:
            found = evaluate_record(item.record, item.files, settings, item.name, item.run)
            pairs.append(found)
        except Exception as error:
            if strict:
                raise
            failed.append({"name": item.name, "run": item.run, "record": str(item.record),
                           "error": in_a_line(error)})  # fmt: skip
        if told is not None:
            told(done, len(items))
    return {
        "schema": SCHEMA,
        "kind": "evaluation",
        "settings": settings.as_dict(),
        "pairs": pairs,
        "failed": failed,
        "summary": summaries(pairs),
        "comparison": compare(pairs),
        "notes": unmeasured(pairs, settings),
    }


def summaries(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summaries of every number over all pairs of each run, runs in their order."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        runs.setdefault(pair["run"], []).append(pair)
    return {
        run: {when: summary([p[when] for p in members]) for when in ("before", "after")}
        for run, members in runs.items()
    }
