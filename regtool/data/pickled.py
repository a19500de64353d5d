"""Volumes of TransMorph's data sets: pickles of an image and its labels, without a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.data.raw import lettered_grid
from regtool.data.safe_pickle import read_arrays
from regtool.errors import InputError
from regtool.imaging.reading import as_labels, from_values
from regtool.imaging.volume import Volume

SPACING = (1.0, 1.0, 1.0)
DIRECTION = "LIA"
"""The arrays' axes point left, down and forward: FreeSurfer's conformed order, at 1 mm."""


def read_pickled_image(path: Path) -> Volume:
    """The image of a pickle of (image, labels), or of an image alone.

    The array's axes i, j, k are x, y, z of the volume, as if nibabel had saved the array with
    FreeSurfer's axes: 1 mm, i to the left, j down, k forward, the first voxel at 0, 0, 0.
    Raises InputError; nothing in the file is executed.
    """
    return _volume(path, _arrays(path)[0])


def read_pickled_labels(path: Path) -> Volume:
    """The labels of a pickle of (image, labels), as ``read_pickled_image``; whole numbers.

    Raises InputError also when there is an image alone, or its labels have another size.
    """
    arrays = _arrays(path)
    if len(arrays) < 2:
        raise InputError(f"{path}: holds an image without labels; ?labels=none does without")
    if arrays[0].shape != arrays[1].shape:
        sizes = ["×".join(map(str, a.shape)) for a in arrays]
        raise InputError(f"{path}: the image has {sizes[0]} voxels, but its labels {sizes[1]}")
    return as_labels(_volume(path, arrays[1]))


def _arrays(path: Path) -> tuple[NDArray[Any], ...]:
    arrays = read_arrays(path)
    if len(arrays) > 2 or any(array.ndim != 3 for array in arrays):
        found = ", ".join("×".join(map(str, array.shape)) for array in arrays)
        raise InputError(f"{path}: expected the arrays of a volume and its labels, found {found}")
    return arrays


def _volume(path: Path, array: NDArray[Any]) -> Volume:
    size = (array.shape[0], array.shape[1], array.shape[2])
    dtype = {"b1": "u1", "f2": "f4"}.get(array.dtype.str[1:], array.dtype)
    values = np.ascontiguousarray(array.T, dtype=dtype)
    return from_values(path, values, lettered_grid(size, SPACING, DIRECTION), "pickle")
