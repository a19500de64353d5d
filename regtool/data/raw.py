"""Volumes without a header: bare 16-bit values, whose grid is known from elsewhere."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from regtool.data.cases import Raw
from regtool.errors import InputError
from regtool.imaging.reading import check_file, from_values
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid

_TOWARDS = {
    "L": (1.0, 0.0, 0.0), "R": (-1.0, 0.0, 0.0), "P": (0.0, 1.0, 0.0), "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0), "I": (0.0, 0.0, -1.0),
}  # fmt: skip
"""Unit vectors of the letters in LPS coordinates."""


def lettered_grid(
    size: tuple[int, int, int], spacing: tuple[float, float, float], letters: str
) -> Grid:
    """A grid with its first voxel at 0, 0, 0, whose axes x, y, z point to where the letters say."""
    columns = np.array([_TOWARDS[letter] for letter in letters]).T
    return Grid(size, spacing, tuple(float(v) for v in columns.ravel()), (0.0, 0.0, 0.0))


def check_size(path: Path, form: Raw) -> None:
    """Raise InputError unless the file has as many bytes as ``form`` says."""
    wanted, found = 2 * math.prod(form.size), check_file(path).stat().st_size
    if found != wanted:
        size = "×".join(str(n) for n in form.size)
        raise InputError(
            f"{path}: {found} bytes, but {size} voxels of 16 bits need {wanted}; is it another "
            "case's image, cut off, or resampled?"
        )


def read_raw(path: Path, form: Raw) -> Volume:
    """Read a raw volume as int16 values, on the grid of ``form``. Raises InputError."""
    check_size(path, form)
    try:
        values = np.fromfile(path, "<i2").astype(np.int16, copy=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    low = max(form.lowest + form.offset, -(2**15))
    values = np.maximum(values, low, out=values)
    values -= np.int16(form.offset)
    grid = lettered_grid(form.size, form.spacing, form.direction)
    return from_values(path, values.reshape(grid.shape), grid, "raw")
