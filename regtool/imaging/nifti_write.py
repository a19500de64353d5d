"""Writing of NIfTI files, byte for byte the same on every run."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from regtool.imaging.nifti import LPS_RAS
from regtool.spatial.grid import Grid

VECTOR_INTENT = 1007
GZIP_LEVEL = 1
"""Float fields hardly compress further, and level 6 takes several times as long."""


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


def vector_header(
    grid: Grid, dtype: np.dtype[Any], components: int, code: int = 1
) -> nib.Nifti1Header:
    """A header of 5-D vectors, intent 1007: (X,Y,Z,1,C), and (X,Y,1,1,C) for a 2-D grid.

    Of a 2-D grid, two components alone are read back as 2-D; others as one slice of a volume.
    """
    header = header_for(grid, dtype, code)
    header.set_data_shape((*(*grid.size, 1)[:3], 1, components))
    header["intent_code"] = VECTOR_INTENT
    header["pixdim"][4:6] = 1
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
