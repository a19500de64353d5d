"""Writing of images in every format, chosen by the name's suffix."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.errors import UsageError
from regtool.imaging.itk import sitk_image, sitk_series
from regtool.imaging.nifti_write import header_for, vector_header, write_nifti
from regtool.imaging.volume import Kind, Volume
from regtool.spatial.grid import Grid

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
_LAST_CODE, _ALIGNED = 5, 2
"""NIfTI's codes of orientations end at 5; what comes after that means no more than 2."""


def write_image(
    path: str | Path,
    array: NDArray[Any],
    grid: Grid,
    like: Volume | None = None,
    kind: Kind = "scalar",
    time_step: float = 1.0,
) -> None:
    """Write an image on a grid, by suffix: NIfTI (.nii, .nii.gz), MetaImage or NRRD.

    ``array`` as in ``Volume``: (*grid.shape), (T, *grid.shape) for a series, (*grid.shape, C) for
    RGB (uint8) and vectors. ``like`` (the fixed image) gives the shape on disk, so that (X,Y),
    (X,Y,1) and (X,Y,1,1) stay what they were, and the orientation code; ``time_step`` is that
    between the frames of a series. bool becomes uint8, float16 float32. Raises UsageError for an
    unknown suffix, OSError when writing fails.
    """
    check_suffix(path)
    array = _writable(array)
    if not str(path).lower().endswith((".nii", ".nii.gz")):
        _write_with_itk(path, array, grid, kind, time_step)
        return
    code = max(like.header.sform_code, like.header.qform_code, 1) if like is not None else 1
    code = code if code <= _LAST_CODE else _ALIGNED
    if kind == "vector":
        header = vector_header(grid, array.dtype, array.shape[-1], code)
        write_nifti(path, np.moveaxis(array, -1, 0), header)
        return
    stored = like.header.stored_shape if like is not None else ()
    spatial = tuple(stored) if math.prod(stored) == math.prod(grid.size) else grid.size
    header = header_for(grid, array.dtype, code)
    header.set_data_shape(spatial)
    if kind == "series":
        header.set_data_shape((*(*grid.size, 1)[:3], array.shape[0]))
        header["pixdim"][4] = time_step
    if kind == "rgb":
        header.set_data_dtype("RGBA" if array.shape[-1] == 4 else "RGB")
    write_nifti(path, array, header)


def check_suffix(path: str | Path) -> None:
    """Raise UsageError unless the name ends in a format that ``write_image`` knows."""
    if not str(path).lower().endswith(IMAGE_SUFFIXES):
        raise UsageError(f"{path}: unknown image format; use {', '.join(IMAGE_SUFFIXES)}")


def _write_with_itk(
    path: str | Path, array: NDArray[Any], grid: Grid, kind: Kind, time_step: float
) -> None:
    if kind == "series":
        image = sitk_series(array, grid, time_step)
    else:
        image = sitk_image(array, grid, vector=kind in ("rgb", "vector"))
    sitk.WriteImage(image, str(path), useCompression=True)


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float16 else array
