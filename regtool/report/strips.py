"""Distributions over a cohort: every case a dot, with a box for the quartiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from regtool.report.cases import Case
from regtool.report.colour import nice, number

_MOST_LABELS = 12
_LANES = 9
"""Dots are spread over so many heights, in turn along the sorted values."""


@dataclass(frozen=True)
class Strip:
    """One distribution. Positions are percent of the axis; ``dots`` is an SVG path of points.

    ``low``, ``q1``, ``middle``, ``q3``, ``high``: whiskers (the most extreme values within 1.5
    interquartile ranges of the box, Tukey 1977), quartiles and median.
    """

    name: str
    tone: str
    dots: str
    low: float
    q1: float
    middle: float
    q3: float
    high: float
    text: str
    count: int


@dataclass(frozen=True)
class Chart:
    """Strips on one axis, with ticks as (position in percent, text)."""

    title: str
    note: str
    strips: tuple[Strip, ...]
    ticks: tuple[tuple[float, str], ...]


def charts(cases: Sequence[Case]) -> list[Chart]:
    """Overlap, overlap by label, similarity, landmarks, folds and time, where there are numbers."""
    labels = _labels(cases)
    by_label = [
        (f"label {key}, {when}", when, [case.labels.get(key, (None, None))[n] for case in cases])
        for key in labels
        for n, when in enumerate(("before", "after"))
    ]
    hidden = len({key for case in cases for key in case.labels}) - len(labels)
    note = f"the {_MOST_LABELS} lowest of {_MOST_LABELS + hidden} labels" if hidden else ""
    made = [
        _chart("Mean Dice", "1 is perfect overlap", _both(cases, "dice"), (0.0, 1.0)),
        _chart("Dice by label", note, by_label, (0.0, 1.0)) if len(labels) > 1 else None,
        _chart("Local NCC", "higher is more alike", _both(cases, "ncc"), (0.0, 1.0)),
        _chart("Landmark error", "mm, mean of each pair", _both(cases, "tre")),
        _chart("Folds", "% of the voxels", [("folded", "plain", _column(cases, "folded"))]),
        _chart("Evenness", "SD of the logarithm of the Jacobian; lower is smoother",
               [("SD log J", "plain", _column(cases, "sd_log"))]),
        _chart("Time", "seconds a pair", [("total", "plain", _column(cases, "seconds"))]),
    ]  # fmt: skip
    return [chart for chart in made if chart is not None]


def quartiles(values: Iterable[float | None]) -> tuple[float, float, float] | None:
    """First quartile, median and third quartile; None without values."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    low, middle, high = (float(v) for v in np.percentile(known, (25, 50, 75)))
    return low, middle, high


def _both(cases: Sequence[Case], key: str) -> list[tuple[str, str, list[float | None]]]:
    return [(when, when, _column(cases, f"{key}_{when}")) for when in ("before", "after")]


def _column(cases: Sequence[Case], key: str) -> list[float | None]:
    return [case[key] for case in cases]


def _labels(cases: Sequence[Case]) -> list[str]:
    """The labels shown: all, or the ones with the lowest median after, in order of number."""
    after: dict[str, list[float]] = {}
    for case in cases:
        for key, (_, last) in case.labels.items():
            if last is not None:
                after.setdefault(key, []).append(last)
    lowest = sorted(after, key=lambda key: float(np.median(after[key])))[:_MOST_LABELS]
    return sorted(lowest, key=lambda key: (len(key), key))


def _chart(
    title: str,
    note: str,
    rows: Sequence[tuple[str, str, Sequence[float | None]]],
    span: tuple[float, float] | None = None,
) -> Chart | None:
    known = [(name, tone, np.asarray([v for v in values if v is not None])) for name, tone, values
             in rows]  # fmt: skip
    known = [row for row in known if row[2].size]
    if not known:
        return None
    top = max(float(values.max()) for _, _, values in known)
    bottom = min(0.0, min(float(values.min()) for _, _, values in known))
    low, high = span or (bottom, nice(top) if top > 0 else 1.0)
    low = min(low, bottom)
    strips = tuple(_strip(name, tone, values, low, high) for name, tone, values in known)
    places = np.linspace(0, 1, 6 if span else 3)
    ticks = tuple((100 * float(p), number(low + float(p) * (high - low))) for p in places)
    return Chart(title, note, strips, ticks)


def _three(value: float) -> str:
    """Three digits that count, trailing zeros kept."""
    return number(value) if value == 0 or abs(value) < 1e-3 else f"{value:#.3g}".rstrip(".")


def _strip(name: str, tone: str, values: np.ndarray, low: float, high: float) -> Strip:
    ordered = np.sort(values)
    q1, middle, q3 = (float(v) for v in np.percentile(ordered, (25, 50, 75)))
    reach = 1.5 * (q3 - q1)
    inside = ordered[(ordered >= q1 - reach) & (ordered <= q3 + reach)]

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    # the path's axes run from 0 to 1000 and from 0 to 100
    dots = "".join(
        f"M{10 * at(float(v)):.0f} {8 + 84 * (n * 4 % _LANES) / (_LANES - 1):.0f}h0"
        for n, v in enumerate(ordered)
    )
    text = f"{_three(middle)} ({_three(q1)} to {_three(q3)})"
    return Strip(name, tone, dots, at(float(inside[0])), at(q1), at(middle), at(q3),
                 at(float(inside[-1])), text, int(ordered.size))  # fmt: skip
