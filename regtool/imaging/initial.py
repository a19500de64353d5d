"""Initial alignment: nothing, centre of mass, rigid or affine, as one world matrix."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regtool.errors import GeometryError, UsageError
from regtool.imaging.linear import register_linear
from regtool.imaging.transforms import read_affine
from regtool.imaging.volume import Volume
from regtool.paths import exists, expanded
from regtool.spatial.grid import Grid, Matrix, centroid

INITIAL_KINDS = ("none", "com", "rigid", "affine")
_OVERLAP_POINTS = 24


def initial_transform(
    kind: str | Path,
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    seed: int = 0,
) -> Matrix:
    """The homogeneous world matrix (ndim+1, ndim+1), LPS mm, from fixed to moving points.

    ``none``: identity. ``com``: shift between the centres of intensity. ``rigid`` and ``affine``:
    Mattes mutual information over a pyramid that respects thick slices, started from the best of
    several shifts; the same inputs and seed give the same matrix. Anything else is the path of a
    linear transform file. Two one-slice volumes are aligned within their planes.
    Raises GeometryError when dimensions differ, InputError for a bad file.
    """
    if fixed.ndim != moving.ndim:
        raise GeometryError(
            f"{fixed.name} is {fixed.ndim}-D and {moving.name} is {moving.ndim}-D; "
            "both must have the same dimension"
        )
    if kind == "none":
        return np.eye(fixed.ndim + 1)
    if kind == "com":
        return centre_shift(fixed, moving, fixed_mask, moving_mask)
    if kind in ("rigid", "affine"):
        return register_linear(str(kind), fixed, moving, fixed_mask, moving_mask, seed)
    return initial_file(kind, fixed.ndim)


def initial_file(path: str | Path, ndim: int) -> Matrix:
    """The linear transform in a file, which may be a word that was meant for a kind.

    Raises UsageError as ``check_initial``, InputError and GeometryError as ``read_affine``.
    """
    check_initial(path)
    return read_affine(path, ndim)


def check_initial(given: str | Path) -> None:
    """Raise UsageError for a word that is neither a kind of alignment nor a file."""
    word = str(given)
    if word in INITIAL_KINDS or Path(word).suffix or Path(word).name != word:
        return
    if not exists(expanded(word)):
        near = difflib.get_close_matches(word.lower(), INITIAL_KINDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"--initial {word}: neither none, com, rigid, affine nor a file{hint}")


def centre_shift(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
) -> Matrix:
    """The translation between the centres of intensity, as a homogeneous matrix."""
    matrix = np.eye(fixed.ndim + 1)
    matrix[:-1, -1] = centre_of_mass(moving, moving_mask) - centre_of_mass(fixed, fixed_mask)
    return matrix


def centre_of_mass(volume: Volume, mask: Volume | None = None) -> NDArray[np.float64]:
    """Centre of intensity above the 1st percentile, (ndim,) in LPS mm.

    A mask on another grid is used by itself; a constant image gives the middle of its grid.
    """
    grid = volume.grid
    if mask is not None and not mask.grid.same_as(grid):
        volume, grid, mask = mask, mask.grid, None
    weights = np.asarray(volume.array, dtype=np.float32)
    low, high = np.percentile(weights, (1, 99.9))
    weights = np.clip(weights, low, max(high, low)) - low
    if mask is not None:
        weights = weights * (mask.array != 0)
    place = centroid(weights, grid)
    return grid.centre if place is None else place


def overlap(fixed: Grid, moving: Grid, matrix: Matrix) -> float:
    """Fraction of the fixed grid that the matrix maps into the moving grid, 0 to 1."""
    axes = [np.unique(np.linspace(0, n - 1, _OVERLAP_POINTS).round()) for n in fixed.size]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, fixed.ndim)
    chain = moving.world_to_index @ matrix @ fixed.index_to_world
    there = index @ chain[:-1, :-1].T + chain[:-1, -1]
    inside = ((there >= -0.5) & (there < np.asarray(moving.size) - 0.5)).all(axis=1)
    return float(inside.mean())


def check_overlap(fixed: Volume, moving: Volume, matrix: Matrix) -> None:
    """Raise GeometryError for two images that do not overlap.

    A moving image much smaller than the fixed one may lie between the points at which the fixed
    grid is looked at; its own then lie inside.
    """
    if overlap(fixed.grid, moving.grid, matrix) > 0:
        return
    with contextlib.suppress(np.linalg.LinAlgError):  # a matrix that nothing comes back from
        back = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
        if overlap(moving.grid, fixed.grid, back) > 0:
            return
    raise GeometryError(
        f"{fixed.name} and {moving.name} do not overlap; align them first: --initial com "
        "(or rigid, affine)"
    )
