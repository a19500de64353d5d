"""Images brought onto the grid on which they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import GeometryError
from regtool.imaging.reading import read_mask
from regtool.imaging.resample import Interpolation, resample
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid


def on_grid(volume: Volume, grid: Grid, interpolation: Interpolation = "nearest") -> NDArray[Any]:
    """The values (*grid.shape) of an image: its own on the same grid, else resampled.

    Raises GeometryError when dimensions differ.
    """
    if volume.grid.same_as(grid):
        return volume.array
    return resample(volume, grid, interpolation=interpolation)


def read_mask_on(path: str | Path, grid: Grid, what: str) -> NDArray[np.bool_]:
    """Read a mask onto the grid of ``what``: (*grid.shape), True inside.

    Raises InputError, or GeometryError for another dimension and where nothing is inside.
    """
    volume = read_mask(path)
    if volume.ndim != grid.ndim:
        raise GeometryError(f"{path}: is {volume.ndim}-D, but {what} is {grid.ndim}-D")
    inside = np.asarray(on_grid(volume, grid) > 0)
    if not inside.any():
        raise GeometryError(f"{path}: empty on the grid of {what}")
    return inside
