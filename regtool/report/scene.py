"""What all pictures of one report share: windows, scales, labels, folds, the region of interest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.report import colour
from regtool.report.planes import Plane, planes
from regtool.report.view import PairView
from regtool.spatial.grid import Grid
from regtool.spatial.jacobian import field_jacobian, inner

MOST_LABELS = 12
"""Labels whose outlines are drawn: the largest."""
_RATIOS = (1.25, 1.5, 2.0, 3.0, 4.0)
_MARGIN_MM = 8.0
_WORTH_A_ZOOM = 0.55
"""Pictures are zoomed to the region when it takes less of their area."""

Levels = tuple[float, float]
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Shown:
    """An extra, ready to be sliced on the fixed grid: values, levels and what it is."""

    values: NDArray[Any]
    levels: Levels
    is_field: bool


@dataclass(frozen=True)
class Scene:
    """The view with its scales.

    ``windows`` by image; ``difference`` the half range of the difference in fractions of the
    window; ``reach`` the top of the field's colour bar in mm; ``ratio`` the end of the Jacobian's
    bar (from 1/ratio to ratio); ``folded`` marks det <= 0 inside the outermost layer; ``box`` is
    the region of interest as (start, stop) a tensor axis; ``mesh`` and ``check`` are the distance
    of grid lines and the side of checkerboard squares in mm.
    """

    view: PairView
    planes: list[Plane]
    windows: dict[str, Levels]
    difference: float
    reach: float
    determinant: NDArray[np.float32]
    ratio: float
    folded: NDArray[np.bool_]
    labels: tuple[int, ...]
    all_labels: int
    box: Box
    box_is: str
    mesh: float
    check: float
    displacement: dict[str, float]
    extras: dict[str, Shown]

    @property
    def grid(self) -> Grid:
        """The fixed grid, on which everything lies."""
        return self.view.grid

    def colour_of(self, label: int) -> str:
        """The colour of a label's outline."""
        return colour.LABEL_COLOURS[self.labels.index(label) % len(colour.LABEL_COLOURS)]


def make_scene(view: PairView) -> Scene:
    """Choose every scale of a report from the whole volumes."""
    grid = view.grid
    length = np.sqrt(np.einsum("...i,...i->...", view.field, view.field))
    determinant = field_jacobian(view.field, grid).float().numpy()
    folded = _folded(determinant, view.mask)
    labels, count = _labels(view)
    box, box_is = _box(view, length, labels)
    part = tuple(slice(start, stop) for start, stop in box)
    windows = {name: colour.window(getattr(view, name)[part]) for name in ("fixed", "moving")}
    windows["warped"] = windows["moving"]
    gap = colour.unit(colour.sample(view.fixed[part]), windows["fixed"]) - colour.unit(
        colour.sample(view.moving[part]), windows["moving"]
    )
    half = colour.nice(max(0.05, min(1.0, float(np.percentile(np.abs(gap), 99.5)))))
    sides = [(stop - start) * s for (start, stop), s in zip(box, grid.spacing[::-1], strict=True)]
    wide = sorted(sides)[-2:]
    return Scene(
        view, planes(grid), windows, min(half, 1.0), colour.nice(_top(length)), determinant,
        _ratio(determinant), folded, labels, count, box, box_is, colour.nice(wide[0] / 18),
        colour.nice(wide[0] / 6), _displacement(length), _extras(view),
    )  # fmt: skip


@dataclass(frozen=True)
class Zoom:
    """The region of interest in fractions of a picture, its shape (width / height), its worth."""

    x: float
    y: float
    w: float
    h: float
    ratio: float
    worth: bool


def zoom_of(plane: Plane, box: Box) -> Zoom:
    """Where the region of interest lies in the pictures of a plane, flips included."""
    spans = []
    for axis, flip, n in zip((plane.rows, plane.columns), plane.flips, plane.shape, strict=True):
        start, stop = box[axis]
        if flip:
            start, stop = n - stop, n - start
        spans.append((round(start / n, 5), round((stop - start) / n, 5)))
    (y, h), (x, w) = spans
    height, width = plane.extent
    return Zoom(x, y, w, h, round(w * width / (h * height), 4), w * h < _WORTH_A_ZOOM)


def _top(length: NDArray[Any]) -> float:
    return float(np.percentile(colour.sample(length), 99.9))


def _displacement(length: NDArray[Any]) -> dict[str, float]:
    some = colour.sample(length)
    return {
        "mean": float(length.mean(dtype=np.float64)),
        "median": float(np.median(some)),
        "p95": float(np.percentile(some, 95)),
        "max": float(length.max()),
    }


def _folded(determinant: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[np.bool_]:
    """As ``regtool.spatial.jacobian.folds`` counts: not the outermost layer, inside the mask."""
    part = inner(determinant.shape)
    folded = np.zeros(determinant.shape, dtype=bool)
    folded[part] = ~(determinant[part] > 0)
    if mask is not None and (mask[part] != 0).any():
        folded &= mask != 0
    return folded


def _ratio(determinant: NDArray[Any]) -> float:
    """The smallest end of the scale that holds 98 % of what is not still."""
    logs = np.abs(np.log(np.maximum(colour.sample(determinant), 1e-3)))
    moved = logs[logs > 0.01]
    if not moved.size:
        return _RATIOS[0]
    wanted = float(np.exp(np.percentile(moved, 98)))
    return next((r for r in _RATIOS if r >= wanted), _RATIOS[-1])


def _labels(view: PairView) -> tuple[tuple[int, ...], int]:
    """The largest labels, in ascending order, and how many there are."""
    total: dict[int, int] = {}
    for values in (view.fixed_labels, view.warped_labels):
        if values is not None:
            found, counts = np.unique(values, return_counts=True)
            for label, count in zip(found.tolist(), counts.tolist(), strict=True):
                if label != 0:
                    total[int(label)] = total.get(int(label), 0) + count
    largest = sorted(total, key=lambda label: -total[label])[:MOST_LABELS]
    return tuple(sorted(largest)), len(total)


def _box(view: PairView, length: NDArray[Any], labels: tuple[int, ...]) -> tuple[Box, str]:
    """Around the labels, or else around what moves by a quarter of the largest shift or more."""
    maps = [view.fixed_labels, view.moving_labels, view.warped_labels]
    present = [m != 0 for m in maps if m is not None]
    if labels and present:
        inside, what = np.logical_or.reduce(present), "the labels"
    else:
        inside, what = length > 0.25 * max(_top(length), 1e-6), "what moves"
    box = box_around(inside, view.grid)
    return (box, what) if box else (tuple((0, n) for n in view.grid.shape), "the image")


def box_around(inside: NDArray[np.bool_], grid: Grid) -> Box | None:
    """The box of a mask with a margin, as (start, stop) a tensor axis; None for an empty mask."""
    if not inside.any():
        return None
    box = []
    for axis, n in enumerate(inside.shape):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        where = np.flatnonzero(inside.any(axis=others))
        first, last = int(where[0]), int(where[-1]) + 1
        margin = round(max(0.18 * (last - first), _MARGIN_MM / grid.spacing[::-1][axis]))
        box.append((max(0, first - margin), min(n, last + margin)))
    return tuple(box)


def _extras(view: PairView) -> dict[str, Shown]:
    from regtool.imaging.resample import resample
    from regtool.imaging.volume import Volume

    shown = {}
    for name, extra in view.extras.items():
        values = extra.values
        is_field = values.ndim == extra.grid.ndim + 1
        if is_field:
            values = np.sqrt(np.einsum("...i,...i->...", values, values))
        if not extra.grid.same_as(view.grid):
            if extra.grid.ndim != view.grid.ndim:
                continue
            values = resample(Volume(values.astype(np.float32), extra.grid), view.grid)
        levels = (0.0, colour.nice(_top(values))) if is_field else colour.window(values, 0.1)
        shown[name] = Shown(values, levels, is_field)
    return shown
