"""One registration of a cohort in a few numbers, and the cohort in order of need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regtool.record import SUFFIX
from regtool.report.values import at, figure, file_name, listed, one_line


@dataclass(frozen=True, slots=True)
class Case:
    """What is kept of a record; numbers are None where the record has none.

    ``numbers`` by name: ``ncc`` (local NCC), ``dice`` and ``tre`` with ``_before`` and ``_after``,
    ``folds`` (voxels), ``folded`` (percent), ``sd_log``, ``seconds``. ``labels`` is Dice (before,
    after) by label.
    """

    name: str
    method: str
    numbers: Mapping[str, float | None]
    labels: Mapping[str, tuple[float | None, float | None]]
    warnings: tuple[str, ...]
    record_path: str | None

    def __getitem__(self, key: str) -> float | None:
        return self.numbers.get(key)


def case_of(row: Mapping[str, Any]) -> Case:
    """The case of a record; ``record_path`` and ``name`` in the row are optional."""
    path = row.get("record_path")
    numbers: dict[str, float | None] = {
        "folds": figure(row, "jacobian", "count"),
        "folded": figure(row, "jacobian", "percent"),
        "sd_log": figure(row, "jacobian", "sd_log"),
        "seconds": figure(row, "seconds", "total"),
    }
    for when in ("before", "after"):
        numbers[f"ncc_{when}"] = figure(row, "similarity", "local_ncc", when)
        numbers[f"dice_{when}"] = figure(row, "dice", when, "mean")
        numbers[f"tre_{when}"] = figure(row, "tre_mm", when, "mean")
    sides = [at(row, "dice", when, "labels") for when in ("before", "after")]
    first, last = (side if isinstance(side, Mapping) else {} for side in sides)
    labels = {str(k): (figure(first, k), figure(last, k)) for k in {**first, **last}}
    return Case(
        name=_name(row, path),
        method=one_line(at(row, "method", "name")),
        numbers=numbers,
        labels=labels,
        warnings=tuple(listed(row.get("warnings"))),
        record_path=None if path is None else str(path),
    )


def _name(row: Mapping[str, Any], path: Any) -> str:
    """The pair's name if it has one, else the record's prefix, else its images."""
    if isinstance(row.get("name"), str) and row["name"]:
        return str(row["name"])
    if path is not None:
        stem = Path(str(path)).name.removesuffix(SUFFIX).rstrip("_")
        return stem or Path(str(path)).parent.name
    moving, fixed = (file_name(at(row, which, "path")) or which for which in ("moving", "fixed"))
    return f"{moving} to {fixed}"


_JUDGES = (
    ("dice_after", False, "mean Dice after"),
    ("tre_after", True, "mean landmark error after"),
    ("ncc_after", False, "local NCC after"),
)


def judge(cases: Sequence[Case]) -> tuple[str, bool, str]:
    """The number that says how bad a case is: its key, whether high is bad, and its name.

    Dice where at least half of the cases have it, else the landmark error, else the similarity.
    """
    for key, high_is_bad, name in _JUDGES:
        if 2 * sum(case[key] is not None for case in cases) >= max(1, len(cases)):
            return key, high_is_bad, name
    return _JUDGES[-1]


def worst_first(cases: Iterable[Case]) -> tuple[list[Case], str]:
    """The cases, worst first by ``judge`` (those without the number first), and the number's name.

    Ties are broken by the share of folds, then by name.
    """
    known = list(cases)
    key, high_is_bad, name = judge(known)

    def order(case: Case) -> tuple[bool, float, float, str]:
        value = case[key]
        if value is None:
            return False, 0.0, 0.0, case.name
        return True, -value if high_is_bad else value, -(case["folded"] or 0.0), case.name

    return sorted(known, key=order), name
