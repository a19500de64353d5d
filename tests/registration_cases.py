"""Small pairs with known transforms, computed in millimetres and written by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.spatial.grid import Grid

Matrix = NDArray[np.float64]
SIZE3, SPACING3 = (32, 40, 12), (2.0, 2.0, 5.0)
SIZE2, SPACING2 = (48, 40), (1.5, 1.8)


def rotation(degrees: float, axis: int = 2, ndim: int = 3) -> Matrix:
    """A rotation about one axis (of the plane, for ``ndim`` 2)."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    if ndim == 2:
        return np.array([[c, -s], [s, c]])
    one, two = [a for a in range(3) if a != axis]
    matrix = np.eye(3)
    matrix[one, one], matrix[one, two], matrix[two, one], matrix[two, two] = c, -s, s, c
    return matrix


DIRECTIONS3 = {
    "identity": np.eye(3),
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "oblique": rotation(20, 2) @ rotation(-15, 0) @ rotation(10, 1),
    "permuted": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
}
DIRECTIONS2 = {
    "identity": np.eye(2),
    "flipped": np.diag([-1.0, 1.0]),
    "oblique": rotation(25, ndim=2),
    "permuted": np.array([[0.0, 1.0], [-1.0, 0.0]]),
}


def make_grid(
    direction: str = "identity",
    size: tuple[int, ...] = SIZE3,
    spacing: tuple[float, ...] | None = None,
    centre: tuple[float, ...] | None = None,
) -> Grid:
    """A grid of a named direction whose middle is at ``centre`` (LPS mm)."""
    ndim = len(size)
    spacing = spacing or (SPACING3 if ndim == 3 else SPACING2)
    matrix = (DIRECTIONS3 if ndim == 3 else DIRECTIONS2)[direction]
    middle = np.asarray(centre or (10.0, -20.0, 30.0)[:ndim])
    origin = middle - matrix @ (np.asarray(spacing) * (np.asarray(size) - 1) / 2)
    return Grid(size, tuple(spacing), tuple(matrix.ravel()), tuple(origin))


def points_of(grid: Grid) -> Matrix:
    """World positions of all voxels, (*shape, ndim)."""
    axes = [np.arange(n) for n in grid.size]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).T  # (ndim, *shape)
    world = grid.index_to_world
    return np.moveaxis(np.tensordot(world[:-1, :-1], index, 1), 0, -1) + world[:-1, -1]


def moved(matrix: Matrix, points: Matrix) -> Matrix:
    """Points through a homogeneous matrix."""
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def transform(
    ndim: int = 3,
    shift: tuple[float, ...] = (4.0, -3.0, 2.0),
    degrees: float = 0.0,
    scale: float = 1.0,
    centre: tuple[float, ...] = (10.0, -20.0, 30.0),
) -> Matrix:
    """Rotation about z (then uniform scale) about ``centre``, followed by a shift in mm."""
    matrix = np.eye(ndim + 1)
    matrix[:-1, :-1] = rotation(degrees, 2, ndim) * scale
    middle = np.asarray(centre[:ndim])
    matrix[:-1, -1] = middle - matrix[:-1, :-1] @ middle + np.asarray(shift[:ndim])
    return matrix


def body(points: Matrix, seed: int = 3) -> Matrix:
    """Intensity at world points (..., ndim): an ellipsoid with blobs around (10, -20, 30)."""
    ndim = points.shape[-1]
    random = np.random.default_rng(seed)
    away = points - np.asarray((10.0, -20.0, 30.0)[:ndim])
    radii = np.asarray((22.0, 26.0, 22.0)[:ndim])
    values = 300 / (1 + np.exp(8 * (np.sqrt(((away / radii) ** 2).sum(-1)) - 1)))
    for _ in range(14):
        centre = random.uniform(-0.7, 0.7, ndim) * radii
        width = random.uniform(4, 8)
        height = random.uniform(200, 500) * random.choice([-0.5, 1.0])
        values = values + height * np.exp(-((away - centre) ** 2).sum(-1) / (2 * width**2))
    return np.maximum(values, 0)


def bend(points: Matrix, size: float = 3.0) -> Matrix:
    """Points after a smooth deformation of ``size`` mm."""
    away = points - np.asarray((10.0, -20.0, 30.0)[: points.shape[-1]])
    fade = np.exp(-(away**2).sum(-1) / (2 * 18.0**2))
    shift = np.zeros_like(points)
    shift[..., 0] = size * fade * np.sin(away[..., 1] / 9)
    shift[..., 1] = size * fade * np.cos(away[..., 0] / 11)
    return points + shift


def labels_at(points: Matrix) -> NDArray[np.uint8]:
    """A label map with values 0, 2 and 7."""
    away = points - np.asarray((10.0, -20.0, 30.0)[: points.shape[-1]])
    result = np.zeros(points.shape[:-1], np.uint8)
    result[(away**2).sum(-1) < 16.0**2] = 2
    result[((away - 4) ** 2).sum(-1) < 8.0**2] = 7
    return result


def save(path: Path, array: NDArray[Any], grid: Grid, vector: bool = False) -> Path:
    """Write an array (*shape[, C]) on a grid with SimpleITK."""
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def write_pair(
    folder: Path, fixed: Grid, moving: Grid, matrix: Matrix, size: float = 3.0
) -> dict[str, Path]:
    """Images, labels and landmarks of a pair in which ``matrix @ bend(x)`` is the truth."""
    fixed_points = moved(matrix, bend(points_of(fixed), size))
    moving_points = points_of(moving)
    made = {
        "fixed": save(folder / "fixed.nii.gz", body(fixed_points).astype(np.float32), fixed),
        "moving": save(folder / "moving.nii.gz", body(moving_points).astype(np.float32), moving),
        "fixed_labels": save(folder / "fixed_labels.nii.gz", labels_at(fixed_points), fixed),
        "moving_labels": save(folder / "moving_labels.nii.gz", labels_at(moving_points), moving),
    }
    spots = points_of(fixed)[tuple(np.s_[::4] if n > 4 else np.s_[:] for n in fixed.shape)]
    spots = spots.reshape(-1, fixed.ndim)
    spots = spots[((spots - fixed.centre) ** 2).sum(1) < 15.0**2]
    for name, values in (("fixed", spots), ("moving", moved(matrix, bend(spots, size)))):
        made[f"{name}_points"] = write_csv(folder / f"{name}_points.csv", values)
    return made


def write_csv(path: Path, points: Matrix) -> Path:
    """Landmarks as antsApplyTransformsToPoints reads them."""
    head = ",".join("xyz"[: points.shape[1]])
    np.savetxt(path, points, fmt="%.6f", delimiter=",", header=head, comments="")
    return path


def read_csv(path: Path) -> Matrix:
    """Landmarks of a CSV, (N, ndim)."""
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)


def read_array(path: Path) -> NDArray[Any]:
    """An image's values as SimpleITK reads them."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
