"""Slices of a volume as a radiologist hangs them, named by the nearest anatomical axes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.spatial.grid import Grid

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
_SECOND = 0.34
"""A second letter is given from 20 degrees off the axis (its sine)."""
# normal axis (0 right-left, 1 front-back, 2 foot-head): name, axis of the columns and of the rows
# with the sign, in LPS, in which they run: the patient's right is on the left of the picture.
_HANGING = {
    2: ("Axial", (0, 1), (1, 1)),
    1: ("Coronal", (0, 1), (2, -1)),
    0: ("Sagittal", (1, 1), (2, -1)),
}


@dataclass(frozen=True)
class Plane:
    """A stack of parallel slices and how they are shown.

    ``axis`` is the tensor axis through the stack (None for a 2-D image), ``rows`` and ``columns``
    the tensor axes of a picture, ``flips`` whether each is reversed. ``spacing`` (row, column) and
    ``gap`` (between slices) are mm; ``right`` and ``down`` are LPS unit vectors of the picture's
    axes; ``letters`` are those at the top, right, bottom and left; ``tilt`` is the angle in degrees
    between the stack's normal and the anatomical axis.
    """

    name: str
    axis: int | None
    rows: int
    columns: int
    flips: tuple[bool, bool]
    shape: tuple[int, int]
    spacing: tuple[float, float]
    count: int
    gap: float
    right: NDArray[np.float64]
    down: NDArray[np.float64]
    letters: tuple[str, str, str, str]
    tilt: float

    def take(self, values: NDArray[Any], index: int) -> NDArray[Any]:
        """Slice ``index`` of an array (*S[, C]) as a picture (rows, columns[, C]), a view."""
        where: list[Any] = [slice(None)] * values.ndim
        if self.axis is not None:
            where[self.axis] = index
        picture = values[tuple(where)]
        return (picture.swapaxes(0, 1) if self.rows > self.columns else picture)[self._steps]

    @property
    def _steps(self) -> tuple[slice, slice]:
        first, second = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return first, second

    def world(self, grid: Grid, index: int) -> NDArray[np.float64]:
        """World points (rows, columns, ndim) of a slice, LPS mm."""
        axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
        if self.axis is not None:
            axes[self.axis] = np.asarray([float(index)])
        mesh = np.stack(np.meshgrid(*axes, indexing="ij"), -1)[..., ::-1]
        matrix = grid.index_to_world
        points = mesh @ matrix[:-1, :-1].T + matrix[:-1, -1]
        return self.take(points, 0)

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width of a picture in mm."""
        return self.shape[0] * self.spacing[0], self.shape[1] * self.spacing[1]


def planes(grid: Grid) -> list[Plane]:
    """The stacks of slices of a grid that are more than a line, the acquired one first.

    A 2-D image and a volume of one slice have one. A volume with slices thicker than 1.5 times its
    pixels was acquired slice by slice: that stack comes first; otherwise axial, coronal, sagittal.
    """
    if grid.ndim == 2:
        return [_flat(grid)]
    matrix = grid.direction_matrix
    nearest = max(permutations(range(3)), key=lambda p: sum(abs(matrix[p[i], i]) for i in range(3)))
    found = [_plane(grid, normal, nearest) for normal in (2, 1, 0)]
    found = [plane for plane in found if min(plane.shape) > 1]
    thick = max(grid.spacing) > 1.5 * min(grid.spacing)
    return sorted(found, key=lambda p: -p.gap) if thick else found


def letters_of(vector: NDArray[np.float64]) -> str:
    """Where a direction in LPS points: ``A``, or ``AL`` when it is well off the axis."""
    order = np.argsort(-np.abs(vector), kind="stable")
    named = [_LETTERS[a][0 if vector[a] > 0 else 1] for a in order if abs(vector[a]) > _SECOND]
    return "".join(named[:2])


def _flat(grid: Grid) -> Plane:
    """A 2-D file has no anatomy: its first world axis runs to the right, the second down."""
    matrix = grid.direction_matrix
    across = 0 if abs(matrix[0, 0]) >= abs(matrix[0, 1]) else 1  # index axis nearest to world x
    along = 1 - across
    flips = bool(matrix[1, along] < 0), bool(matrix[0, across] < 0)
    return Plane(
        "Image", None, 1 - along, 1 - across, flips,
        (grid.size[along], grid.size[across]), (grid.spacing[along], grid.spacing[across]), 1, 0.0,
        _signed(matrix[:, across], flips[1]), _signed(matrix[:, along], flips[0]),
        ("", "", "", ""), 0.0,
    )  # fmt: skip


def _plane(grid: Grid, normal: int, nearest: tuple[int, ...]) -> Plane:
    """``nearest[i]`` is the anatomical axis of index axis i."""
    name, (column_axis, column_sign), (row_axis, row_sign) = _HANGING[normal]
    matrix = grid.direction_matrix
    through, across, along = (nearest.index(a) for a in (normal, column_axis, row_axis))
    flips = (
        bool(matrix[row_axis, along] * row_sign < 0),
        bool(matrix[column_axis, across] * column_sign < 0),
    )
    right, down = _signed(matrix[:, across], flips[1]), _signed(matrix[:, along], flips[0])
    tilt = float(np.degrees(np.arccos(min(1.0, abs(matrix[normal, through])))))
    return Plane(
        name, 2 - through, 2 - along, 2 - across, flips,
        (grid.size[along], grid.size[across]), (grid.spacing[along], grid.spacing[across]),
        grid.size[through], grid.spacing[through], right, down,
        (letters_of(-down), letters_of(right), letters_of(down), letters_of(-right)), tilt,
    )  # fmt: skip


def _signed(vector: NDArray[np.float64], flip: bool) -> NDArray[np.float64]:
    return -vector if flip else vector.copy()
