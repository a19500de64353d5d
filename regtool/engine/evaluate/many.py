"""Many registrations: each measured, summarised by run, and runs compared pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from regtool.engine.evaluate.compare import compare
from regtool.engine.evaluate.items import Item
from regtool.engine.evaluate.pair import evaluate_record
from regtool.engine.evaluate.settings import Settings
from regtool.errors import expected
from regtool.metrics.statistics import summarise

SCHEMA = 1

Told = Callable[[int, int], None]


def evaluate_all(
    items: Sequence[Item], settings: Settings, told: Told | None = None, strict: bool = False
) -> dict[str, Any]:
    """Evaluate every item; plain data, ready for JSON.

    ``pairs``: what ``evaluate_record`` returns. ``failed``: name, run and error of each pair that
    could not be measured; ``strict`` raises the first such error instead. ``summary``: by run, n,
    mean, SD, median and quartiles of every number, before and after. ``comparison``: see
    ``compare``. ``told(done, total)`` is called after each item.
    """
    pairs, failed = [], []
    for done, item in enumerate(items, start=1):
        try:
            found = evaluate_record(item.record, item.files, settings, item.name, item.run)
            pairs.append(found)
        except Exception as error:
            if strict:
                raise
            failed.append({"name": item.name, "run": item.run, "record": str(item.record),
                           "error": _sentence(error)})  # fmt: skip
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
    }


def _sentence(error: Exception) -> str:
    known = expected(error)
    return str(known) if known is not None else f"unexpected {type(error).__name__}: {error}"


def summaries(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summaries of every number over the pairs of each run, runs in their order.

    The means over structures also have ``pooled_sd``: the SD over all cases and structures
    together, which DiffuseMorph, FSDiffReg and DiffuseReg print (METHODS 2.5).
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        runs.setdefault(pair["run"], []).append(pair)
    return {
        run: {when: _summary([p[when] for p in members]) for when in ("before", "after")}
        for run, members in runs.items()
    }


def _summary(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key in dict.fromkeys(k for values in found for k in values):
        summary = summarise(values[key] for values in found if key in values)
        if summary is not None:
            result[key] = summary.as_dict()
    for key in result:
        parts = [v for values in found for k, v in values.items() if k.startswith(f"{key}:")]
        pooled = summarise(parts)
        if pooled is not None:
            result[key]["pooled_sd"] = pooled.sd
    return result
