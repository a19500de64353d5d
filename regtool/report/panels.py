"""The pictures of one slice: each a raster, lines on it, a colour bar and a caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.report import colour, lines
from regtool.report.colour import Bar, number
from regtool.report.lines import Polyline
from regtool.report.planes import Plane
from regtool.report.scene import Scene

_ARROWS = 17
"""Arrows along the shorter side of the region of interest."""


@dataclass(frozen=True)
class Overlay:
    """Lines on a picture; ``group`` is outline, mesh, fold or arrow."""

    group: str
    lines: Sequence[Polyline]
    colour: str
    dashed: bool = False
    closed: bool = False
    filled: bool = False


@dataclass(frozen=True)
class Panel:
    """A picture (rows, columns) grey or (rows, columns, 3), 8 bits, with all that belongs to it.

    ``dim`` asks for a darker raster under lines.
    """

    key: str
    title: str
    caption: str
    pixels: NDArray[np.uint8]
    overlays: tuple[Overlay, ...] = ()
    bar: Bar | None = None
    dim: bool = False


def panels(scene: Scene, plane: Plane, index: int) -> Iterator[Panel]:
    """All pictures of slice ``index`` of a plane, in reading order."""
    view = scene.view
    raw = {name: plane.take(getattr(view, name), index) for name in ("fixed", "moving", "warped")}
    units = {name: colour.unit(values, scene.windows[name]) for name, values in raw.items()}
    maps = {
        name: None if values is None else plane.take(values, index)
        for name, values in (("fixed", view.fixed_labels), ("moving", view.moving_labels),
                             ("warped", view.warped_labels))
    }  # fmt: skip
    drawn = {
        name: _outlines(scene, values, dashed=name != "fixed")
        for name, values in maps.items()
        if values is not None
    }
    fixed_lines = drawn.get("fixed", ())
    for name, title, own in (
        ("fixed", "Fixed", drawn.get("warped", ())),
        ("moving", "Moving, before", drawn.get("moving", ())),
        ("warped", "Warped, after", drawn.get("warped", ())),
    ):
        low, high = scene.windows[name]
        yield Panel(
            name,
            title,
            f"Window {number(low)} to {number(high)}",
            colour.grey(units[name]),
            (*fixed_lines, *own),
        )
    for name, title in (("moving", "Difference before"), ("warped", "Difference after")):
        yield _difference(scene, name, title, units)
    yield _checkerboard(scene, plane, units)
    yield _mesh(scene, plane, index, units["warped"])
    yield _field(scene, plane, index)
    yield _jacobian(scene, plane, index)
    for name, extra in scene.extras.items():
        yield _extra(name, extra, plane.take(extra.values, index))


def _outlines(scene: Scene, labels: NDArray[Any], dashed: bool) -> tuple[Overlay, ...]:
    present = set(np.unique(labels).tolist())
    return tuple(
        Overlay("outline", found, scene.colour_of(label), dashed, closed=True)
        for label in scene.labels
        if label in present and (found := lines.outlines(labels == label))
    )


def _difference(scene: Scene, name: str, title: str, units: dict[str, NDArray[Any]]) -> Panel:
    half = scene.difference
    values = (units["fixed"] - units[name]) / (2 * half) + 0.5
    ends = number(100 * half)
    ticks = [(0.0, f"−{ends}"), (0.5, "0"), (1.0, f"+{ends} %")]
    return Panel(
        "before" if name == "moving" else "after",
        title,
        f"Fixed − {'moving' if name == 'moving' else 'warped'}, % of the window",
        colour.coloured(values, "residual"),
        bar=colour.bar("residual", ticks, "difference in percent of the window"),
    )


def _checkerboard(scene: Scene, plane: Plane, units: dict[str, NDArray[Any]]) -> Panel:
    height, width = plane.shape
    y = np.floor((np.arange(height) + 0.5) * plane.spacing[0] / scene.check).astype(int)
    x = np.floor((np.arange(width) + 0.5) * plane.spacing[1] / scene.check).astype(int)
    is_fixed = (y[:, None] + x[None, :]) % 2 == 0
    mixed = np.where(is_fixed, units["fixed"], units["warped"])
    return Panel(
        "checkerboard",
        "Checkerboard",
        f"Fixed and warped in turn, squares of {number(scene.check)} mm",
        colour.grey(mixed),
    )


def _mesh(scene: Scene, plane: Plane, index: int, warped: NDArray[Any]) -> Panel:
    """Level lines of where each point is read: a mesh drawn on the moving image, then warped."""
    view = scene.view
    points = plane.world(view.grid, index) + plane.take(view.field, index)
    linear = view.affine[:-1, :-1]
    points = points @ linear.T + view.affine[:-1, -1]
    found: list[Polyline] = []
    for direction in (plane.right, plane.down):
        values = points @ direction
        first = np.ceil(values.min() / scene.mesh)
        last = min(np.floor(values.max() / scene.mesh), first + 400)
        levels = np.arange(first, last + 1) * scene.mesh
        # half a hair off the voxels: a level that runs exactly through them has no clean line
        found += lines.level_lines(values, levels + 1e-4 * scene.mesh)
    return Panel(
        "mesh",
        "Deformation grid",
        f"Lines {number(scene.mesh)} mm apart on the moving image, carried along by the warp",
        colour.grey(warped),
        (Overlay("mesh", found, "#ffc94d"),),
        dim=True,
    )


def _field(scene: Scene, plane: Plane, index: int) -> Panel:
    field = plane.take(scene.view.field, index)
    length = np.sqrt(np.einsum("...i,...i->...", field, field))
    top = scene.reach
    ticks = [(0.0, "0"), (0.5, number(top / 2)), (1.0, f"{number(top)} mm")]
    return Panel(
        "field",
        "Displacement",
        "Length in mm; arrows: its part in this plane, true to scale, from fixed to moving",
        colour.coloured(length / top, "viridis"),
        (Overlay("arrow", _arrows(scene, plane, field), "#ffffff"),),
        colour.bar("viridis", ticks, "length of the displacement in mm"),
    )


def _arrows(scene: Scene, plane: Plane, field: NDArray[Any]) -> list[Polyline]:
    height, width = _box_extent(scene, plane)
    step = max(min(height, width) / _ARROWS, max(height, width) / (2.5 * _ARROWS))
    rows, columns = (
        np.unique(np.arange(step / 2, n * s, step) // s).astype(int)
        for n, s in zip(plane.shape, plane.spacing, strict=True)
    )
    rows, columns = rows[rows < plane.shape[0]], columns[columns < plane.shape[1]]
    y, x = (a.reshape(-1) for a in np.meshgrid(rows, columns, indexing="ij"))
    vectors = field[y, x].astype(np.float64)
    along = np.stack([vectors @ plane.right, vectors @ plane.down], -1)
    moved = np.hypot(along[:, 0], along[:, 1]) > max(0.02 * scene.reach, 0.1 * min(plane.spacing))
    pixel = np.asarray([plane.spacing[1], plane.spacing[0]])
    start = (np.stack([x, y], -1) + 0.5) * pixel
    return [line / pixel for line in lines.arrows(start[moved], along[moved])]


def _box_extent(scene: Scene, plane: Plane) -> tuple[float, float]:
    (top, bottom), (left, right) = scene.box[plane.rows], scene.box[plane.columns]
    return (bottom - top) * plane.spacing[0], (right - left) * plane.spacing[1]


def _jacobian(scene: Scene, plane: Plane, index: int) -> Panel:
    values = plane.take(scene.determinant, index)
    folded = plane.take(scene.folded, index)
    ratio = scene.ratio
    logs = np.log(np.maximum(values, 1e-3)) / (2 * np.log(ratio)) + 0.5
    ticks = [(0.0, f"1/{number(ratio)}"), (0.5, "1"), (1.0, number(ratio))]
    count = int(folded.sum())
    marked = "no folds in this slice" if not count else f"{count} folded here, marked"
    return Panel(
        "jacobian",
        "Jacobian",
        f"Volume ratio moving : fixed, log scale; {marked}",
        colour.coloured(logs, "RdBu_r"),
        (Overlay("fold", lines.squares(folded), colour.FOLD_COLOUR, closed=True, filled=True),)
        if count
        else (),
        colour.bar("RdBu_r", ticks, "Jacobian determinant, logarithmic"),
    )


def _extra(name: str, extra: Any, values: NDArray[Any]) -> Panel:
    low, high = extra.levels
    ticks = [(0.0, number(low)), (1.0, number(high) + (" mm" if extra.is_field else ""))]
    what = "Length of the vectors in mm" if extra.is_field else "Values as the method gave them"
    return Panel(
        f"extra-{name}",
        name,
        f"{what}; an extra of the method",
        colour.coloured(colour.unit(values, extra.levels), "cividis"),
        bar=colour.bar("cividis", ticks, name),
    )
