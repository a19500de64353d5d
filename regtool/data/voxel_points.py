"""Landmarks given as voxels of their image: text of three numbers a line, without a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging.reading import check_file
from regtool.spatial.grid import Grid

LARGEST = 2**24
"""Bytes of a file that is read; 300 landmarks are about 4 KB."""


def read_voxels(path: Path, size: tuple[int, ...], counted_from: int) -> NDArray[np.float64]:
    """Voxels (N, 3) as x, y, z, counted from 0; the file counts from ``counted_from``.

    Numbers stand between spaces, tabs or commas; more than three on a line are left alone. Raises
    InputError, naming the line, for what is no voxel of an image of ``size``.
    """
    file = check_file(path)
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file}: larger than {LARGEST // 2**20} MiB; is it a list of landmarks?")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file}: not readable as text; landmarks are x y z in voxels") from None
    points = [
        _voxel(f"{file} line {number}", line, size, counted_from)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not points:
        raise InputError(f"{file}: no landmarks in the file")
    return np.array(points, np.float64)


def read_voxel_points(path: Path, grid: Grid, counted_from: int) -> NDArray[np.float64]:
    """Landmarks (N, 3) in LPS mm, from voxels of an image on ``grid``. Raises InputError."""
    voxels = read_voxels(path, grid.size, counted_from)
    matrix = grid.index_to_world
    return np.asarray(voxels @ matrix[:3, :3].T + matrix[:3, 3])


def _voxel(where: str, line: str, size: tuple[int, ...], counted_from: int) -> list[float]:
    cells = line.replace(",", " ").split()[:3]
    try:
        values = [float(cell) - counted_from for cell in cells]
    except ValueError:
        values = []
    if len(values) != 3:
        raise InputError(f"{where}: expected x y z in voxels, found {line.strip()[:40]!a}")
    # Some lists have fractions of voxels; half a voxel beyond the centre is still inside.
    if not all(-0.5 <= v <= n - 0.5 for v, n in zip(values, size, strict=True)):
        last = " ".join(str(n - 1 + counted_from) for n in size)
        raise InputError(
            f"{where}: {' '.join(cells)[:60]} is outside the image, whose voxels are counted from "
            f"{counted_from} to {last}"
        )
    return values
