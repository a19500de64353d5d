"""Repair of a field file's values: LPS millimetres in float32, checked exactly as written."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regtool.spatial.frames import linear_part
from regtool.spatial.grid import Grid
from regtool.spatial.jacobian import field_jacobian, folds
from regtool.spatial.repair import FLOOR, ZERO, repair, scan_displacement, shrunk

_FLOORS = tuple(FLOOR * f for f in (1, 3, 10, 30))
"""Tried in turn: where cells are stretched a lot, rounding to float32 moves a determinant more."""


@dataclass(frozen=True)
class Folds:
    """Folds of a field: ``central`` counts voxels (without the outermost layer) with
    det(I + grad u) <= 0 by central differences, ``corner`` all non-positive corner determinants,
    of which every cell of the grid has 2**ndim."""

    central: int
    corner: int


@dataclass(frozen=True)
class Repaired:
    """What a repair did: folds before and after, voxels that changed, and how far they went."""

    before: Folds
    after: Folds
    changed_voxels: int
    changed_percent: float
    moved_mm_max: float
    moved_mm_mean: float

    def as_dict(self) -> dict[str, object]:
        """Return the numbers as a plain mapping, ready for JSON."""
        return asdict(self)


def repair_field(field: NDArray[np.float32], grid: Grid) -> tuple[NDArray[np.float32], Repaired]:
    """Remove all folds of a field, central and corner, from its float32 values.

    ``field`` (*grid.shape, ndim), LPS mm, components (x, y, z), as written to the field file.
    Returns an array like it and a summary; voxels that did not have to move keep their bits, and
    a field without folds is returned as it is. Determinants are those of ``field_jacobian`` (the
    direction matrix counts) and of ``repair``; the values returned have been checked in float64.

    Raises ValueError for a field that is not finite or does not fit the grid.
    """
    if field.shape != (*grid.shape, grid.ndim):
        raise ValueError(f"field of shape {field.shape} on a grid of shape {grid.shape}")
    voxels = _voxels(field, grid)
    found = scan_displacement(voxels, ZERO)
    if not found.cells.numel():
        return field, Repaired(Folds(0, 0), Folds(0, 0), 0, 0.0, 0.0, 0.0)
    written = _repaired(field, voxels, grid)
    moved = np.linalg.norm(written.astype(np.float64) - field, axis=-1)
    changed = int((moved > 0).sum())
    return written, Repaired(
        before=Folds(_central(field, grid), found.count),
        after=Folds(_central(written, grid), scan_displacement(_voxels(written, grid)).count),
        changed_voxels=changed,
        changed_percent=100.0 * changed / moved.size,
        moved_mm_max=float(moved.max()),
        moved_mm_mean=float(moved.sum() / max(changed, 1)),
    )


def _repaired(field: NDArray[np.float32], voxels: Tensor, grid: Grid) -> NDArray[np.float32]:
    spacing = tuple(reversed(grid.spacing))
    mended = voxels
    for floor in _FLOORS:
        mended = repair(voxels, spacing, floor)
        written = field.copy()
        moved = (mended != voxels).any(1)[0].numpy()
        vectors = linear_part(grid) @ mended[0][:, torch.from_numpy(moved)]
        written[moved] = vectors.T.numpy().astype(np.float32)
        if _is_fine(written, grid):
            return written
    millimetres = linear_part(grid) @ mended[0].flatten(1)

    def stored(values: Tensor) -> NDArray[np.float32]:
        return values.T.reshape(field.shape).numpy().astype(np.float32)

    return stored(shrunk(millimetres, lambda values: _is_fine(stored(values), grid)))


def _is_fine(field: NDArray[np.float32], grid: Grid) -> bool:
    """No fold in float64 arithmetic, nor in the float32 arithmetic of the reported Jacobian."""
    if scan_displacement(_voxels(field, grid), ZERO).cells.numel():
        return False
    return bool((field_jacobian(field, grid) > 0).all())


def _central(field: NDArray[np.float32], grid: Grid) -> int:
    return folds(field_jacobian(field, grid)).count


def _voxels(field: NDArray[np.float32], grid: Grid) -> Tensor:
    """(1, ndim, *S) float64 in voxels, exactly what the float32 values say."""
    back = torch.linalg.inv(linear_part(grid))
    flat = torch.from_numpy(np.ascontiguousarray(field)).reshape(-1, grid.ndim).double()
    return (back @ flat.T).reshape(1, grid.ndim, *grid.shape)
