"""A generated pair of images whose true correspondence is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.spatial.grid import Grid

Floats = NDArray[np.floating[Any]]
Points = tuple[Floats, Floats, Floats]
"""World-like coordinates (x, y, z) in mm as three arrays that broadcast against each other."""

VIEWS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "heart2d": ((192, 224), (1.4, 1.4)),
    "heart3d": ((12, 192, 224), (8.0, 1.4, 1.4)),
    "brain": ((96, 120, 104), (1.5, 1.5, 1.5)),
    "lung": ((100, 88, 120), (3.0, 2.8, 2.8)),
}
"""Usual array shape and spacing (mm, array order) of each kind."""


@dataclass(frozen=True)
class Phantom:
    """Two int16 images and their uint8 labels on one grid, arrays of ``grid.shape``.

    ``displacement`` (ndim, *shape), float32: the truth, component i along array axis i in voxels,
    ``fixed(x)`` shows the tissue of ``moving(x + u(x))``. ``names`` maps label values to
    structures. ``modality`` is ``mr`` or ``ct`` (then values are HU).
    """

    fixed: NDArray[np.int16]
    moving: NDArray[np.int16]
    fixed_labels: NDArray[np.uint8]
    moving_labels: NDArray[np.uint8]
    grid: Grid
    displacement: Floats
    names: Mapping[int, str]
    modality: str


def axes_mm(shape: tuple[int, ...], spacing: tuple[float, ...], sub: int = 1) -> list[Floats]:
    """Open mesh of coordinates in mm about the middle, in array order, (z, y, x) or (y, x).

    ``sub`` splits every voxel of the first axis into that many, to average a slice profile.
    """
    lines = []
    for axis, (n, step) in enumerate(zip(shape, spacing, strict=True)):
        k = sub if axis == 0 else 1
        lines.append(((np.arange(n * k) + 0.5) / k - n / 2).astype(np.float32) * np.float32(step))
    return list(np.meshgrid(*lines, indexing="ij", sparse=True))


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation about x, then y, then z, by ``angles`` in degrees: (3, 3)."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles)):
        i, j = ((1, 2), (2, 0), (0, 1))[axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def grid_of(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    direction: NDArray[np.float64],
    centre: tuple[float, ...],
) -> Grid:
    """The grid with this array shape and spacing (array order) around ``centre`` (LPS mm)."""
    size, step = shape[::-1], np.asarray(spacing[::-1], dtype=np.float64)
    origin = np.asarray(centre) - direction @ (step * (np.asarray(size) - 1) / 2)
    return Grid(
        tuple(int(n) for n in size),
        tuple(float(s) for s in step),
        tuple(float(v) for v in direction.ravel()),
        tuple(round(float(v), 4) for v in origin),
    )
