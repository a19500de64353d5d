"""The report of a cohort: what is typical, and the worst cases first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regtool import __version__
from regtool.errors import RegtoolError
from regtool.imaging.writing import Outputs
from regtool.paths import expanded
from regtool.report import colour, provenance, values
from regtool.report.cases import Case, case_of, worst_first
from regtool.report.files import images_of
from regtool.report.page import render
from regtool.report.pictures import data_uri
from regtool.report.planes import planes
from regtool.report.scene import box_around
from regtool.report.strips import charts, quartiles

WORST = 12
"""Cases shown with pictures."""
_LONGEST_WARNING = 300


@dataclass(frozen=True)
class Thumbnails:
    """The pictures of one case, or why there are none."""

    case: Case
    pictures: tuple[tuple[str, str], ...]
    ratio: float
    note: str


def cohort_report(
    rows: Iterable[Mapping[str, Any]],
    path: str | Path,
    failures: Iterable[tuple[str, str]] = (),
    *,
    title: str = "Cohort",
    worst: int = WORST,
    overwrite: bool = False,
) -> Path:
    """Write the page of a cohort.

    ``rows`` are records, each with ``record_path`` (for pictures and the name) and, if wanted,
    ``name``; see ``regtool.report.files.cohort_rows``. Of each only a few numbers are kept, so a
    generator stays cheap. ``failures`` are names and error lines of pairs without a record. The
    ``worst`` cases are shown with pictures, read one case at a time.
    Raises OutputError when the file exists (without ``overwrite``) or cannot be written.
    """
    common = _Common()
    cases, by = worst_first(case_of(row) for row in map(common.seen, rows))
    failed = [(str(name), str(line)) for name, line in failures]
    used = _used(cases)
    outputs = Outputs({"page": Path(path)}, overwrite=overwrite)
    with outputs:
        text = render(
            "cohort.html.j2",
            "cohort.js",
            title=title,
            count=len(cases),
            failures=failed,
            verdict=_verdict(cases),
            tiles=_tiles(cases, failed),
            charts=charts(cases),
            by=by,
            worst=[thumbnails(case) for case in cases[:worst]],
            columns=[name for _, name, _ in used],
            rows=[_row(case, used) for case in cases],
            warned=[
                (case.name, [w[:_LONGEST_WARNING] for w in case.warnings])
                for case in cases
                if case.warnings
            ],
            methods=sorted({case.method for case in cases}),
            facts=list((common.facts or {}).items()),
            version=__version__,
        )
        outputs.text("page", text)
    return expanded(path)


class _Common:
    """What was run and how, as far as all records agree."""

    def __init__(self) -> None:
        self.facts: dict[str, str] | None = None

    def seen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same record, once it is looked at."""
        own = dict(provenance.facts(row))
        known = own if self.facts is None else self.facts
        self.facts = {name: value for name, value in known.items() if own.get(name) == value}
        return row


def thumbnails(case: Case) -> Thumbnails:
    """Fixed, warped and their difference in one slice of the acquired stack.

    Through the middle of the warped labels and cut to them, or of the whole image without labels.
    """
    if case.record_path is None:
        return Thumbnails(case, (), 1.0, "no pictures: the record is not in a file")
    try:
        fixed, warped, labels = images_of(case.record_path)
    except RegtoolError as error:
        return Thumbnails(case, (), 1.0, f"no pictures: {error}")
    plane = planes(fixed.grid)[0]
    whole = tuple((0, n) for n in fixed.grid.shape)
    box = whole if labels is None else box_around(labels != 0, fixed.grid) or whole
    index = 0 if plane.axis is None else sum(box[plane.axis]) // 2
    part = tuple(
        slice(*box[axis]) if axis != plane.axis else slice(None) for axis in range(len(box))
    )
    a, b = (
        colour.unit(plane.take(values[part], index), colour.window(values[part]))
        for values in (fixed.array, warped)
    )
    pictures = (
        ("fixed", data_uri(_small(colour.grey(a)), 75)),
        ("warped", data_uri(_small(colour.grey(b)), 75)),
        ("difference", data_uri(_small(colour.coloured(a - b + 0.5, "residual")), 75)),
    )
    where = [] if plane.axis is None else [f"{plane.name}, slice {index + 1} of {plane.count}"]
    where += ["cut to the labels"] if box != whole else []
    ratio = a.shape[1] * plane.spacing[1] / (a.shape[0] * plane.spacing[0])
    return Thumbnails(case, pictures, round(ratio, 4), "; ".join(where))


def _small(pixels: np.ndarray) -> np.ndarray:
    """At most 256 pixels a side."""
    from PIL import Image

    if max(pixels.shape[:2]) <= 256:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((256, 256), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _verdict(cases: Sequence[Case]) -> str:
    """How many got better, worse, and folded."""
    said = []
    for key, name, high_is_bad in (
        ("dice", "mean Dice", False), ("tre", "landmark error", True), ("ncc", "local NCC", False)
    ):  # fmt: skip
        known = [(c[f"{key}_before"], c[f"{key}_after"]) for c in cases]
        pairs = [(a, b) for a, b in known if a is not None and b is not None]
        if pairs:
            better = sum((b < a) if high_is_bad else (b > a) for a, b in pairs)
            said.append(f"{name} improved in {better} of {len(pairs)} pairs")
    folds = [c["folds"] for c in cases if c["folds"] is not None]
    if folds:
        folded = sum(f != 0 for f in folds)
        few = f"{folded} of {len(folds)} warps have folds"
        said.append(few if folded else "no warp has folds")
    line = "; ".join(said)
    return f"{line[0].upper()}{line[1:]}." if line else ""


def _tiles(cases: Sequence[Case], failed: Sequence[Any]) -> list[dict[str, str]]:
    tiles = [
        {"name": "Pairs", "before": "", "after": str(len(cases)), "tone": "plain",
         "note": "registered"},
        {"name": "Failed", "before": "", "after": str(len(failed)),
         "tone": "bad" if failed else "good", "note": "listed below" if failed else "none"},
    ]  # fmt: skip
    for key, name, digits in (("dice", "Dice", 3), ("ncc", "Local NCC", 3), ("tre", "TRE, mm", 2)):
        before = quartiles(c[f"{key}_before"] for c in cases)
        after = quartiles(c[f"{key}_after"] for c in cases)
        if after is None:
            continue
        first = "" if before is None else values.text(before[1], digits)
        better = before is None or (after[1] < before[1]) == (key == "tre")
        low, high = (values.text(v, digits) for v in (after[0], after[2]))
        tiles.append({"name": name, "before": first, "after": values.text(after[1], digits),
                      "tone": "good" if better else "bad",
                      "note": f"median; middle half {low} to {high}"})  # fmt: skip
    folded = quartiles(c["folded"] for c in cases)
    if folded is not None:
        most = max(c["folded"] for c in cases if c["folded"] is not None)
        note = f"median; at most {values.percent(most)}"
        tiles.append({"name": "Folds", "before": "", "after": values.percent(folded[1]),
                      "tone": "plain", "note": note})  # fmt: skip
    seconds = quartiles(c["seconds"] for c in cases)
    if seconds is not None:
        tiles.append({"name": "Time", "before": "", "after": values.text(seconds[1], 1, " s"),
                      "tone": "plain", "note": "median of a pair"})  # fmt: skip
    return tiles


_COLUMNS = (
    ("dice_before", "Dice before", 3), ("dice_after", "Dice after", 3),
    ("tre_before", "TRE before", 2), ("tre_after", "TRE after", 2),
    ("ncc_before", "Local NCC before", 3), ("ncc_after", "Local NCC after", 3),
    ("folds", "folds", 0), ("sd_log", "SD log J", 3), ("seconds", "seconds", 1),
)  # fmt: skip


def _used(cases: Sequence[Case]) -> list[tuple[str, str, int]]:
    return [column for column in _COLUMNS if any(case[column[0]] is not None for case in cases)]


def _row(case: Case, used: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    return {
        "name": case.name,
        "cells": [values.text(case[key], digits) for key, _, digits in used],
        "warnings": len(case.warnings),
    }
