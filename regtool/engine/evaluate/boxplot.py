"""Box plots of an evaluation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from regtool.engine.evaluate.settings import METRICS, TITLES

BEFORE = "before"
_COLUMNS = 4
_LIMIT = 40
"""More structures than these get no boxes of their own."""


def draw_boxplots(path: str | Path, result: dict[str, Any]) -> None:
    """Draw the pairs of ``evaluate_all`` as PNG (or by suffix): every number, by run.

    Boxes span the quartiles with the median, whiskers reach the last value within 1.5 times the
    quartiles' distance, every value beyond is a point; the mean is a small triangle. Where there
    is a number before registration, it has a box of its own. Dice of single structures fill a row
    below.
    """
    from matplotlib.figure import Figure

    series = _series(result["pairs"])
    metrics = [m for m in METRICS if any(m in values for values in series.values())]
    structures = list(dict.fromkeys(k for v in series.values() for k in v if k.startswith("dice:")))
    structures = structures if 1 < len(structures) <= _LIMIT else []
    rows = max(1, math.ceil(len(metrics) / _COLUMNS))
    columns = min(_COLUMNS, max(1, len(metrics)))
    wide = max(2.8 * columns, 0.25 * len(structures) * len(series) + 2) if structures else 0
    figure = Figure(
        figsize=(max(2.8 * columns, wide), 2.6 * rows + (3.4 if structures else 0)),
        layout="constrained",
    )
    grid = figure.add_gridspec(rows + bool(structures), columns)
    colours = {name: f"C{number}" for number, name in enumerate(r for r in series if r != BEFORE)}
    colours[BEFORE] = "0.7"
    for number, metric in enumerate(metrics):
        axes = figure.add_subplot(grid[divmod(number, columns)])
        here = {name: values[metric] for name, values in series.items() if values.get(metric)}
        _boxes(axes, list(here.values()), range(len(here)), 0.6, [colours[n] for n in here])
        axes.set_xticks(range(len(here)), list(here), rotation=20 if len(here) > 2 else 0)
        axes.set_title(TITLES[metric], fontsize=10)
    if structures:
        axes = figure.add_subplot(grid[rows, :])
        _structure_row(axes, series, structures, colours)
    figure.savefig(path, dpi=150)


def _series(pairs: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Finite values by run and metric; ``before`` has each pair of images once."""
    series: dict[str, dict[str, list[float]]] = {}
    seen: set[Any] = set()
    for pair in pairs:
        images = tuple(pair[f"{role}_sha256"] or pair[role] for role in ("fixed", "moving"))
        if pair["before"] and images not in seen:
            _add(series.setdefault(BEFORE, {}), pair["before"])
        seen.add(images)
        _add(series.setdefault(pair["run"] or pair["method"] or "after", {}), pair["after"])
    return series


def _add(found: dict[str, list[float]], values: dict[str, float]) -> None:
    for key, value in values.items():
        if math.isfinite(value):
            found.setdefault(key, []).append(value)


def _boxes(axes: Any, values: list[list[float]], places: Any, width: float, colours: Any) -> None:
    drawn = axes.boxplot(
        values, positions=list(places), widths=width, patch_artist=True, showmeans=True,
        manage_ticks=False, medianprops={"color": "black"}, flierprops={"markersize": 3},
        meanprops={"markersize": 4, "markerfacecolor": "white", "markeredgecolor": "black"},
    )  # fmt: skip
    for box, colour in zip(drawn["boxes"], colours, strict=True):
        box.set_facecolor(colour)
    axes.grid(axis="y", alpha=0.3)
    axes.tick_params(labelsize=8)


def _structure_row(
    axes: Any,
    series: dict[str, dict[str, list[float]]],
    structures: list[str],
    colours: dict[str, str],
) -> None:
    """Dice of each structure: a cluster of boxes, one a series."""
    from matplotlib.patches import Patch

    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        there = [i for i, key in enumerate(structures) if values.get(key)]
        _boxes(
            axes, [values[structures[i]] for i in there], [i + shift for i in there], 0.85 * width,
            [colours[name]] * len(there),
        )  # fmt: skip
    long = sum(len(key) for key in structures) > 12 * axes.figure.get_figwidth()
    axes.set_xticks(
        range(len(structures)), [key.partition(":")[2] for key in structures],
        rotation=45 if long else 0, ha="right" if long else "center",
    )  # fmt: skip
    axes.set_xlim(-0.6, len(structures) - 0.4)
    axes.set_title("Dice by structure", fontsize=10)
    axes.legend(handles=[Patch(facecolor=colours[n], label=n) for n in series], fontsize=8)
