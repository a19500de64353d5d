"""How the pairs of a cohort ended."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from regtool.errors import InputError, expected, in_a_line
from regtool.record import read_record

State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """One pair: ``failed`` has the line that says why, and the exit code it would have had."""

    name: str
    state: State
    error: str | None = None
    code: int = 0

    @classmethod
    def failure(cls, name: str, error: Exception) -> Outcome:
        """From an exception; one that nobody expected is named as such."""
        code = getattr(expected(error), "exit_code", 1)
        return cls(name, "failed", in_a_line(error), code)


@dataclass
class Tally:
    """Outcomes so far, from any thread; ``told`` hears how many of how many have ended."""

    total: int
    told: Callable[[int, int, Outcome], None] | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: Outcome) -> None:
        """Note one."""
        with self.lock:
            self.outcomes.append(outcome)
            done = len(self.outcomes)
            if self.told is not None:
                self.told(done, self.total, outcome)


def summary(outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    """Counts, the failed pairs by name, and the seconds it took; ready for JSON."""
    failed = sorted((o for o in outcomes if o.state == "failed"), key=lambda o: o.name)
    states = [o.state for o in outcomes]
    return {
        "schema": 1,
        "kind": "cohort",
        "pairs": len(outcomes),
        "done": states.count("done"),
        "skipped": states.count("skipped"),
        "failed": [{k: v for k, v in asdict(o).items() if k != "state"} for o in failed],
        "seconds": seconds,
    }


def medians(records: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Medians of local NCC, mean Dice and mean landmark error (mm), before and after, and their n.

    Only of records that have both numbers; what no record has is left out.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _FIGURES}
    for path in records:
        try:
            record = read_record(path)
        except InputError:  # gone meanwhile
            continue
        for name, keys in _FIGURES.items():
            both = [_number(record, *keys[0], when, *keys[1]) for when in ("before", "after")]
            if both[0] is not None and both[1] is not None:
                found[name].append((both[0], both[1]))
    return {
        name: {
            "n": len(pairs),
            "before": median(before for before, _ in pairs),
            "after": median(after for _, after in pairs),
        }
        for name, pairs in found.items()
        if pairs
    }


_FIGURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "local_ncc": (("similarity", "local_ncc"), ()),
    "dice": (("dice",), ("mean",)),
    "tre_mm": (("tre_mm",), ("mean",)),
}
"""Where a record has its figures: keys above and below ``before`` and ``after``."""


def _number(record: Any, *keys: str) -> float | None:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    number = isinstance(record, int | float) and math.isfinite(record)
    return float(record) if number else None
