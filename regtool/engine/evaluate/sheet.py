"""The table of an evaluation as CSV: one row a registration."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

FACTS = ("run", "name", "record", "method", "fixed", "moving", "label_interpolation", "error")


def write_csv(path: str | Path, result: dict[str, Any]) -> None:
    """Write one row for each pair of ``evaluate_all``, failed ones with their error.

    Columns: what identifies the pair, then every number, then ``before:`` numbers. A number that
    does not exist for a pair is an empty cell, an infinite one is ``inf``.
    """
    pairs = result["pairs"]
    after = list(dict.fromkeys(key for pair in pairs for key in pair["after"]))
    before = list(dict.fromkeys(key for pair in pairs for key in pair["before"]))
    with Path(path).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*FACTS, *after, *(f"before:{key}" for key in before)])
        for pair in [*pairs, *result["failed"]]:
            labels = pair.get("details", {}).get("labels", {})
            facts = {**pair, "label_interpolation": labels.get("interpolation")}
            writer.writerow(
                [facts.get(name) if facts.get(name) is not None else "" for name in FACTS]
                + [_cell(pair.get("after", {}).get(key)) for key in after]
                + [_cell(pair.get("before", {}).get(key)) for key in before]
            )


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))
