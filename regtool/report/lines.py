"""Outlines of labels and level lines as polylines in a picture, and as SVG paths.

Coordinates are (x, y) in pixels from the top left corner of the picture; the middle of the first
pixel is (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Polyline = NDArray[np.float64]
SCALE = 10
"""Steps of an SVG path to a pixel; paths hold whole numbers, which keeps them short."""
FINEST = 768
_PASSES = 6


def outlines(mask: NDArray[np.bool_], tolerance: float = 0.2) -> list[Polyline]:
    """Closed outlines of a mask (rows, columns), half-way between its pixels and the others."""
    from contourpy import contour_generator

    rows, columns = np.asarray(mask.any(axis=1)), np.asarray(mask.any(axis=0))
    if not rows.any():
        return []
    (top, bottom), (left, right) = _ends(rows), _ends(columns)
    part = np.pad(mask[top:bottom, left:right], 1).astype(np.float32)
    found = contour_generator(z=part).lines(0.5)
    shift = np.asarray([left - 0.5, top - 0.5])
    return simplified([np.asarray(line) + shift for line in found], tolerance)


def level_lines(
    values: NDArray[Any], levels: Iterable[float], tolerance: float = 0.2
) -> list[Polyline]:
    """Lines along which ``values`` (rows, columns) equals each level.

    Pictures of more than ``FINEST`` pixels a side are looked at every second, third … pixel.
    """
    from contourpy import contour_generator

    if min(values.shape) < 2:
        return []
    step = -(-max(values.shape) // FINEST)
    y, x = (np.unique(np.append(np.arange(0, n, step), n - 1)) + 0.5 for n in values.shape)
    rows, columns = (y - 0.5).astype(int), (x - 0.5).astype(int)
    generator = contour_generator(x, y, values[np.ix_(rows, columns)])
    found = [np.asarray(line) for level in levels for line in generator.lines(level)]
    return simplified(found, tolerance)


def simplified(lines: Sequence[Polyline], tolerance: float) -> list[Polyline]:
    """Leave out points so that no line moves by more than ``tolerance`` pixels; ends stay.

    Every pass drops each second point that lies near the line through its neighbours, on all lines
    at once; six passes leave one point in 64 of a straight line. Each may cost a sixth.
    """
    if not lines:
        return []
    points = np.concatenate(lines)
    sizes = np.asarray([len(line) for line in lines])
    for _ in range(_PASSES):
        ends = np.cumsum(sizes)
        starts = ends - sizes
        owner = np.repeat(np.arange(len(sizes)), sizes)
        place = np.arange(len(points)) - starts[owner]
        odd = (place % 2 == 1) & (place < sizes[owner] - 1)
        middle = np.flatnonzero(odd)
        before, after = points[middle - 1], points[middle + 1]
        chord, rest = after - before, points[middle] - before
        length = np.hypot(chord[:, 0], chord[:, 1])
        across = np.abs(rest[:, 0] * chord[:, 1] - rest[:, 1] * chord[:, 0])
        along = (rest * chord).sum(axis=1)
        near = (across <= length * tolerance / _PASSES) & (along >= 0) & (along <= length**2)
        keep = np.ones(len(points), dtype=bool)
        keep[middle[near & (length > 0)]] = False
        points, owner = points[keep], owner[keep]
        sizes = np.bincount(owner, minlength=len(sizes))
    return np.split(points, np.cumsum(sizes)[:-1])


def svg_path(lines: Sequence[Polyline], closed: bool = False) -> str:
    """The ``d`` of an SVG path in tenths of a pixel, with relative steps."""
    pieces: list[str] = []
    end = "z" if closed else ""
    for line in lines:
        points = np.rint(line * SCALE).astype(int).tolist()
        if closed and len(points) > 1 and points[0] == points[-1]:
            points.pop()
        steps = [f"{x - u} {y - v}" for (u, v), (x, y) in pairwise(points) if x != u or y != v]
        if steps:
            body = " ".join(steps).replace(" -", "-")
            pieces.append(f"M{points[0][0]} {points[0][1]}l{body}{end}")
    return "".join(pieces)


def squares(mask: NDArray[np.bool_]) -> list[Polyline]:
    """The pixels of a mask as closed squares; runs along a row are joined."""
    found = []
    for y in np.flatnonzero(mask.any(axis=1)):
        edges = np.flatnonzero(np.diff(np.pad(mask[y].astype(np.int8), 1)))
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            corners = [(a, y), (b, y), (b, y + 1), (a, y + 1), (a, y)]
            found.append(np.asarray(corners, dtype=np.float64))
    return found


def arrows(start: NDArray[np.float64], shift: NDArray[np.float64]) -> list[Polyline]:
    """An arrow from every start (N, 2) by its shift (N, 2), as one open line each, in mm."""
    tip, side = start + shift, np.stack([-shift[:, 1], shift[:, 0]], -1)
    back = tip - 0.32 * shift
    return list(np.stack([start, tip, back + 0.18 * side, tip, back - 0.18 * side], axis=1))


def _ends(flags: NDArray[np.bool_]) -> tuple[int, int]:
    where = np.flatnonzero(flags)
    return int(where[0]), int(where[-1]) + 1
