"""Between SimpleITK's images and arrays on grids."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.imaging.volume import Kind, Volume
from regtool.spatial.grid import Grid


class _OneThread:
    """ITK with one thread, which only the whole process can be told, until all are done with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(self._before)


one_thread = _OneThread()
"""A context in which ITK's sums do not depend on timing; threads of Python may enter it at once."""


def grid_of(image: sitk.Image) -> Grid:
    """The spatial grid of a SimpleITK image; of a 4-D image its first three axes."""
    n = min(image.GetDimension(), 3)
    direction = np.asarray(image.GetDirection()).reshape(image.GetDimension(), -1)[:n, :n]
    return Grid(
        tuple(image.GetSize()[:n]), tuple(image.GetSpacing()[:n]),
        tuple(float(v) for v in direction.ravel()), tuple(image.GetOrigin()[:n]),
    )  # fmt: skip


def as_volume(source: Any) -> Any:
    """A SimpleITK image as a Volume (values copied); anything else as it is.

    An image of 4 axes is a series, one of several components a vector image.
    """
    if not isinstance(source, sitk.Image):
        return source
    parts = source.GetNumberOfComponentsPerPixel()
    kind: Kind = "vector" if parts > 1 else "series" if source.GetDimension() == 4 else "scalar"
    return Volume(sitk.GetArrayFromImage(source), grid_of(source), kind)


def sitk_image(array: NDArray[Any], grid: Grid, *, vector: bool = False) -> sitk.Image:
    """A SimpleITK image of an array (*grid.shape[, C]) on a grid (values copied)."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def sitk_series(array: NDArray[Any], grid: Grid, time_step: float) -> sitk.Image:
    """A 4-D SimpleITK image of a series (T, *grid.shape); of 2-D frames, volumes of one slice."""
    n = grid.ndim
    direction = np.eye(4)
    direction[:n, :n] = grid.direction_matrix
    image = sitk.GetImageFromArray(array.reshape(-1, *(1,) * (3 - n), *grid.shape), isVector=False)
    image.SetSpacing((*grid.spacing, *(1.0,) * (3 - n), time_step))
    image.SetOrigin((*grid.origin, *(0.0,) * (4 - n)))
    image.SetDirection(direction.ravel().tolist())
    return image
