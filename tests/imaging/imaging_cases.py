"""Grids and files that the imaging tests share; everything is generated."""

from __future__ import annotations

import gzip
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from regtool.spatial.grid import Grid


def rotation(seed: int, ndim: int) -> NDArray[np.float64]:
    """A random orthonormal matrix, proper or not."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(ndim, ndim)))[0]


def centred(size: tuple[int, ...], spacing: tuple[float, ...], direction: Any) -> Grid:
    """A grid whose middle is near the world's origin, off by a fraction of a voxel."""
    flat = tuple(float(v) for v in np.asarray(direction, dtype=float).ravel())
    grid = Grid(size, spacing, flat, (0.0,) * len(size))
    return Grid(size, spacing, flat, tuple(0.3 - grid.centre))


def grids(ndim: int) -> dict[str, Grid]:
    """Identity, flipped, oblique, permuted and anisotropic grids of about the same extent."""
    size, spacing = ((14, 17, 12), (2.0, 1.7, 2.3)) if ndim == 3 else ((21, 17), (2.0, 1.7))
    flips, order = np.diag([-1.0, -1.0, 1.0][:ndim]), list(range(ndim))[::-1]
    thick = ((26, 31, 5), (1.0, 1.0, 6.0)) if ndim == 3 else ((31, 6), (1.0, 5.0))
    return {
        "identity": centred(size, spacing, np.eye(ndim)),
        "flipped": centred(size, spacing, flips),
        "oblique": centred(size, spacing, rotation(3, ndim)),
        "permuted": centred(size, spacing, np.eye(ndim)[order]),
        "anisotropic": centred(*thick, flips),
    }


def one_slice_grid(angle: float = 0.3, shift: float = 0.0) -> Grid:
    """An oblique 3-D grid with one slice."""
    c, s = np.cos(angle), np.sin(angle)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return Grid((24, 20, 1), (1.5, 1.2, 8.0), tuple(direction.ravel()), (-10.0, -14.0, shift))


def smooth_field(grid: Grid, seed: int = 0, size: float = 4.0) -> NDArray[np.float32]:
    """A random displacement field (*grid.shape, ndim) in mm; zero across one-voxel axes."""
    draw = np.random.default_rng(seed).normal(size=(*grid.shape, grid.ndim)) * size
    for axis, n in enumerate(grid.shape):
        if n > 2:
            draw = (draw + np.roll(draw, 1, axis) + np.roll(draw, -1, axis)) / 3
    if 1 in grid.size:
        draw -= (draw @ grid.direction_matrix[:, 2:]) * grid.direction_matrix[:, 2]
    return draw.astype(np.float32)


def save(path: Path, array: NDArray[Any], affine: Any = None, **fields: Any) -> Path:
    """Write a NIfTI (axes x, y, z) with both forms set, then set header fields as named."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    content = image.to_bytes()
    header = nib.Nifti1Header.from_fileobj(BytesIO(content[:348]), check=False)
    for name, value in fields.items():  # nibabel would put them right while saving
        header[name] = value
    content = header.binaryblock + content[348:]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def numbers(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> NDArray[Any]:
    """Whole numbers from 0 to 99."""
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
