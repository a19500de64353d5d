"""What breathing depends on: where lungs, spine and inner chest wall of a thorax are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.data.phantoms.pair import Floats, Points, axes_mm

CELL = 6.0  # mm between the samples of the anatomy; motions are smooth on a larger scale
MARGIN = 36.0  # mm around the lungs in which the chest wall is described


@dataclass(frozen=True)
class Lung:
    """Middle and half widths of one lung in the transverse plane (x, y), mm."""

    centre: tuple[float, float]
    half: tuple[float, float]


@dataclass(frozen=True)
class Anatomy:
    """A thorax in LPS mm (x left, y back, z up) about some middle.

    ``base`` and ``apex``: heights between which the lungs lie, without their tips. ``spine``: its
    place (x, y). ``inside``: places in the lungs, (3, N), to measure a motion by.
    """

    right: Lung
    left: Lung
    base: float
    apex: float
    spine: tuple[float, float]
    wall: Wall
    inside: Floats

    @classmethod
    def of(
        cls, lungs: Callable[[Points], NDArray[Any]], size: tuple[float, ...], near: Floats
    ) -> Anatomy:
        """Measure a thorax by ``lungs(points)``, 1 in the right lung, 2 in the left, else 0.

        ``size`` (mm, array order) is searched around the place ``near`` (x, y, z).
        Raises ValueError where there are no two lungs.
        """
        shape = tuple(max(8, int(np.ceil((s + 2 * MARGIN) / CELL))) for s in size)
        axes = [
            a + np.float32(c) for a, c in zip(axes_mm(shape, (CELL,) * 3), near[::-1], strict=True)
        ]
        z, y, x = axes
        labels = np.broadcast_to(lungs((x, y, z)), shape)
        lines = [a.ravel() for a in axes]
        both = [_lung(labels == value, lines) for value in (1, 2)]
        place = np.argwhere(labels > 0)
        points = np.stack([lines[axis][place[:, axis]] for axis in (2, 1, 0)])
        base, apex = np.percentile(points[2], [12, 99.5])
        back, front = np.percentile(points[1], [99, 1])
        spine = (
            (both[0].centre[0] + both[1].centre[0]) / 2,
            float(back - 0.15 * (back - front)),
        )
        wall = Wall(_cage(labels > 0), lines)
        chosen = points[:, :: max(1, points.shape[1] // 3000)]
        return cls(both[0], both[1], float(base), float(apex), spine, wall, chosen)


class Wall:
    """The inner chest wall as a smooth function: depth below it and the inward normal."""

    def __init__(self, cage: NDArray[np.bool_], lines: list[Floats]) -> None:
        from scipy import ndimage

        apart = ndimage.distance_transform_edt(cage) - ndimage.distance_transform_edt(~cage)
        # Both distances count from voxel centres: the surface lies half a cell from either.
        depth = CELL * np.where(apart > 0, apart - 0.5, apart + 0.5)
        depth = ndimage.gaussian_filter(depth, 2.0, mode="nearest").clip(-60, 90)
        slope = [np.gradient(depth, CELL, axis=axis) for axis in (2, 1, 0)]
        self._start = [float(line[0]) for line in lines]
        self._maps = [
            ndimage.spline_filter(m, order=3, mode="nearest", output=np.float32)
            for m in (depth, *slope)
        ]

    def depth(self, p: Points) -> Floats:
        """Depth in mm below the wall at points, negative outside; of their broadcast shape."""
        return self._at(0, p)

    def normal(self, p: Points) -> Points:
        """The inward unit normal near the wall; shorter far from it, where it has no meaning."""
        n = [self._at(k, p) for k in (1, 2, 3)]
        length = np.maximum(np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2), np.float32(0.5))
        return n[0] / length, n[1] / length, n[2] / length

    def _at(self, which: int, p: Points) -> Floats:
        from scipy import ndimage

        x, y, z = np.broadcast_arrays(*p)
        place = [
            (v - np.float32(s)) / np.float32(CELL)
            for v, s in zip((z, y, x), self._start, strict=True)
        ]
        return np.asarray(
            ndimage.map_coordinates(
                self._maps[which], place, order=3, mode="nearest", prefilter=False
            ),
            np.float32,
        )


def _lung(mask: NDArray[np.bool_], lines: list[Floats]) -> Lung:
    if mask.sum() < 50:
        raise ValueError("no two lungs of at least ten millilitres")
    place = np.argwhere(mask)
    x, y = (lines[axis][place[:, axis]] for axis in (2, 1))
    bounds = [np.percentile(v, [1, 99]) for v in (x, y)]
    centre = tuple(float(b.mean()) for b in bounds)
    half = tuple(float(b[1] - b[0]) / 2 for b in bounds)
    return Lung((centre[0], centre[1]), (half[0], half[1]))


def _cage(lungs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What the ribs enclose: the convex hull of both lungs, slice by slice from the apex down.

    It never narrows downwards, so that it also holds the liver and what else moves with it.
    """
    from scipy.spatial import Delaunay

    cage = np.zeros_like(lungs)
    plane = np.stack(np.meshgrid(*map(np.arange, lungs.shape[1:]), indexing="ij"), -1)
    held = np.zeros(lungs.shape[1:], bool)
    for z in range(len(lungs) - 1, -1, -1):
        if (lungs[z] & ~held).any():
            corners = np.argwhere(held | lungs[z])
            held = held | lungs[z]
            if (np.ptp(corners, axis=0) > 0).all() and len(corners) > 4:
                held = (Delaunay(corners).find_simplex(plane) >= 0) | held
        cage[z] = held
    return cage
