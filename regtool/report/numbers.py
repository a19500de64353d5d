"""The numbers of one registration: the few that matter first, then tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regtool.metrics.similarity import NOISE
from regtool.report import values
from regtool.report.values import at, change, figure, percent, text
from regtool.words import counted

Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True)
class Tile:
    """One headline number; ``before`` is empty where there is none."""

    name: str
    before: str
    after: str
    note: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Span:
    """A row with values before and after on a scale from 0 to 1, drawn as a line."""

    name: str
    before: float | None
    after: float | None
    colour: str = ""
    strong: bool = False

    @property
    def cells(self) -> tuple[str, str, str]:
        """Before, after and change as text."""
        return text(self.before), text(self.after), change(self.before, self.after)

    @property
    def marks(self) -> tuple[float, float] | None:
        """Both values in percent of the scale, clipped."""
        if self.before is None or self.after is None:
            return None
        first, last = (100 * min(1.0, max(0.0, v)) for v in (self.before, self.after))
        return first, last

    @property
    def worse(self) -> bool:
        """Whether the value fell."""
        return self.before is not None and self.after is not None and self.after < self.before


@dataclass(frozen=True)
class Table:
    """A table of strings; the first column names the row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tiles(record: Mapping[str, Any], displacement: Mapping[str, float]) -> list[Tile]:
    """Similarity, overlap, landmarks, folds, displacement and time, as far as they are known."""
    tone: Tone
    found = [_pair("Local NCC", record, ("similarity", "local_ncc"), 3, "higher is more alike")]
    if figure(record, "dice", "after", "mean") is not None:
        labels = at(record, "dice", "after", "labels")
        count = len(labels) if isinstance(labels, Mapping) else 0
        before, after = (figure(record, "dice", w, "mean") for w in ("before", "after"))
        note = f"overlap, mean of {counted(count, 'label')}"
        found.append(Tile("Dice", text(before), text(after), note, _tone(before, after)))
    if figure(record, "tre_mm", "after", "mean") is not None:
        before, after = (figure(record, "tre_mm", w, "mean") for w in ("before", "after"))
        count_points = figure(record, "tre_mm", "after", "count")
        note = f"mm, mean of {text(count_points, 0)} landmarks"
        first, last = text(before, 2), text(after, 2)
        # In mm no change is noise that can be seen in the numbers.
        tone = "plain" if first == last else _tone(after, before, noise=0.0)
        found.append(Tile("TRE", first, last, note, tone))
    folds = figure(record, "jacobian", "count")
    if folds is not None:
        share = percent(figure(record, "jacobian", "percent"))
        note = "nothing is turned inside out" if folds == 0 else f"{share} of the voxels"
        tone = "good" if folds == 0 else "bad"
        found.append(Tile("Folds", "", text(folds, 0), note, tone))
        note = "spread of volume change; lower is smoother"
        found.append(Tile("SD log J", "", text(figure(record, "jacobian", "sd_log")), note))
    longest = text(displacement["max"], 1, " mm")
    note = f"95 % move less; at most {longest}"
    found.append(Tile("Displacement", "", text(displacement["p95"], 1, " mm"), note))
    seconds = figure(record, "seconds", "total")
    if seconds is not None:
        device = values.one_line(record.get("device"))
        shown = text(seconds, 1 if seconds < 100 else 0, " s")
        found.append(Tile("Time", "", shown, f"on {device}, reading and writing included"))
    return found


def _pair(
    name: str, record: Mapping[str, Any], keys: tuple[str, ...], digits: int, note: str
) -> Tile:
    before, after = (figure(record, *keys, when) for when in ("before", "after"))
    return Tile(name, text(before, digits), text(after, digits), note, _tone(before, after))


def _tone(before: float | None, after: float | None, noise: float = NOISE) -> Tone:
    if before is None or after is None or abs(after - before) <= noise:
        return "plain"
    return "good" if after > before else "bad"


def similarity(record: Mapping[str, Any]) -> list[Span]:
    """Both similarities before and after."""
    names = {"local_ncc": "Local NCC (window 9, squared)", "ncc": "NCC (Pearson)"}
    found = at(record, "similarity")
    keys = list(found) if isinstance(found, Mapping) else []
    return [
        Span(names.get(key, str(key)), figure(found, key, "before"), figure(found, key, "after"))
        for key in keys
    ]


def dice(record: Mapping[str, Any], colours: Mapping[str, str]) -> list[Span]:
    """Dice of every label, and the mean last; colours by the label's number as text."""
    sides = [at(record, "dice", when, "labels") for when in ("before", "after")]
    before, after = (side if isinstance(side, Mapping) else {} for side in sides)
    labels = sorted({*before, *after}, key=lambda k: (len(str(k)), str(k)))
    rows = [
        Span(f"label {k}", figure(before, k), figure(after, k), colours.get(k, "")) for k in labels
    ]
    if rows:
        first, last = (figure(record, "dice", when, "mean") for when in ("before", "after"))
        rows.append(Span("mean", first, last, strong=True))
    return rows


def tables(record: Mapping[str, Any], displacement: Mapping[str, float]) -> list[Table]:
    """Landmarks, determinants, displacement, what was done after the method, and seconds."""
    return [
        table
        for table in (
            _landmarks(record),
            _jacobian(record),
            _displacement(displacement),
            *(_plain_table(record, key, title) for key, title in (
                ("topology", "Repair of folds"), ("refine", "Refinement"), ("inverse", "Inverse"))),
            _seconds(record),
        )
        if table is not None
    ]  # fmt: skip


def _landmarks(record: Mapping[str, Any]) -> Table | None:
    after = at(record, "tre_mm", "after")
    if not isinstance(after, Mapping):
        problem = at(record, "tre_mm", "error")
        if not isinstance(problem, str):
            return None
        return Table("Landmarks", ("", ""), (("not measured", problem),))
    names = {"mean": "mean", "sd": "standard deviation", "median": "median",
             "p95": "95th percentile", "max": "largest"}  # fmt: skip
    rows = tuple(
        (shown, *(text(figure(record, "tre_mm", w, key), 2) for w in ("before", "after")))
        for key, shown in names.items()
    )
    note = f"{text(figure(after, 'count'), 0)} landmarks"
    return Table("Target registration error", ("mm", "before", "after"), rows, note)


def _jacobian(record: Mapping[str, Any]) -> Table | None:
    found = at(record, "jacobian")
    if not isinstance(found, Mapping):
        return None
    rows = (
        ("folded (det ≤ 0)", text(figure(found, "count"), 0)),
        ("folded share", percent(figure(found, "percent"))),
        ("voxels counted", text(figure(found, "voxels"), 0)),
        ("smallest", text(figure(found, "min"))),
        ("largest", text(figure(found, "max"))),
        ("mean", text(figure(found, "mean"))),
        ("SD", text(figure(found, "sd"))),
        ("SD of the logarithm", text(figure(found, "sd_log"))),
    )
    return Table("Jacobian determinant", ("", "value"), rows, "without the outermost layer")


def _displacement(found: Mapping[str, float]) -> Table:
    names = {"mean": "mean", "median": "median", "p95": "95th percentile", "max": "largest"}
    rows = tuple((shown, text(found[key], 2)) for key, shown in names.items())
    return Table("Displacement", ("mm", "value"), rows, "of the field, without the affine")


def _plain_table(record: Mapping[str, Any], key: str, title: str) -> Table | None:
    found = record.get(key)
    if not isinstance(found, Mapping) or not found:
        return None
    # Settings are told with what was run.
    numbers = {name: value for name, value in found.items() if name != "settings"}
    rows = tuple((name, shown) for name, shown in _flat(numbers))
    return Table(title, ("", "value"), rows)


def _flat(found: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in found.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name}, ")
        else:
            shown = values.one_line(value)
            minus = values.MINUS if isinstance(value, int | float) else "-"
            rows.append((name, shown.replace("-", minus)))
    return rows


def _seconds(record: Mapping[str, Any]) -> Table | None:
    found = at(record, "seconds")
    if not isinstance(found, Mapping) or not found:
        return None
    rows = tuple((str(part), text(figure(found, part), 2)) for part in found)
    return Table("Seconds", ("part", "s"), rows)
