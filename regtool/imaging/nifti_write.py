"""Writing of images, NIfTI byte for byte the same on every run."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.errors import UsageError
from regtool.imaging.itk import sitk_image
from regtool.imaging.nifti import LPS_RAS
from regtool.imaging.volume import Kind, Volume
from regtool.spatial.grid import Grid

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
GZIP_LEVEL = 1
"""Float fields hardly compress further, and level 6 takes several times as long."""
_LAST_CODE, _ALIGNED = 5, 2
"""NIfTI's codes of orientations end at 5; what comes after that means no more than 2."""


def ras_affine(grid: Grid) -> NDArray[np.float64]:
    """The 4x4 RAS matrix that NIfTI stores, of a 2-D or 3-D grid."""
    n = grid.ndim
    affine = np.eye(4)
    world = grid.index_to_world
    affine[:n, :n] = world[:n, :n]
    affine[:n, 3] = world[:n, n]
    return LPS_RAS @ affine


def header_for(grid: Grid, dtype: np.dtype[Any], code: int = 1) -> nib.Nifti1Header:
    """A header with this grid in both sform and qform, in mm and seconds."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(grid.size)
    affine = ras_affine(grid)
    header.set_qform(affine, code=code)
    header.set_sform(affine, code=code)
    header.set_xyzt_units("mm", "sec")
    return header


def write_nifti(path: str | Path, values: NDArray[Any], header: nib.Nifti1Header) -> None:
    """Write values in C order with axes reversed (..., z, y, x); .gz in the name compresses."""
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header["scl_slope"], header["scl_inter"] = 1, 0
    values = np.ascontiguousarray(values)
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    content = values.reshape(-1).view(np.uint8).data
    file = Path(path)
    with file.open("wb") as raw:
        start = header.as_byteswapped("<").binaryblock + b"\0" * 4
        if not file.name.lower().endswith(".gz"):
            raw.write(start)
            raw.write(content)
            return
        packed = gzip.GzipFile(
            filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=GZIP_LEVEL
        )
        with packed:
            packed.write(start)
            packed.write(content)


def write_image(
    path: str | Path,
    array: NDArray[Any],
    grid: Grid,
    like: Volume | None = None,
    kind: Kind = "scalar",
) -> None:
    """Write an image on a grid, by suffix: NIfTI (.nii, .nii.gz), MetaImage or NRRD.

    ``array`` as in ``Volume``: (*grid.shape), (T, *grid.shape) for a series, (*grid.shape, C) for
    RGB (uint8). ``like`` (the fixed image) gives the shape on disk, so that (X,Y), (X,Y,1) and
    (X,Y,1,1) stay what they were, and the orientation code and time step. bool becomes uint8,
    float16 float32. Raises UsageError for an unknown suffix, OSError when writing fails.
    """
    check_suffix(path)
    array = _writable(array)
    if not str(path).lower().endswith((".nii", ".nii.gz")):
        image = sitk_image(array, grid, vector=kind in ("rgb", "vector"))
        sitk.WriteImage(image, str(path), useCompression=True)
        return
    stored = like.header.stored_shape if like is not None else ()
    spatial = tuple(stored) if math.prod(stored) == math.prod(grid.size) else grid.size
    code = max(like.header.sform_code, like.header.qform_code, 1) if like is not None else 1
    header = header_for(grid, array.dtype, code if code <= _LAST_CODE else _ALIGNED)
    header.set_data_shape(spatial)
    if kind == "series":
        header.set_data_shape((*(*grid.size, 1)[:3], array.shape[0]))
        header["pixdim"][4] = like.header.time_step if like is not None else 1.0
    if kind == "rgb":
        header.set_data_dtype("RGBA" if array.shape[-1] == 4 else "RGB")
    write_nifti(path, array, header)


def check_suffix(path: str | Path) -> None:
    """Raise UsageError unless the name ends in a format that ``write_image`` knows."""
    if not str(path).lower().endswith(IMAGE_SUFFIXES):
        raise UsageError(f"{path}: unknown image format; use {', '.join(IMAGE_SUFFIXES)}")


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float16 else array
