"""Known motions in millimetres come back as numbers, whatever the grids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from registration_cases import (
    SIZE2,
    SIZE3,
    bend,
    body,
    make_grid,
    moved,
    points_of,
    save,
    transform,
    write_pair,
)

import regtool
from regtool.errors import GeometryError, InputError, UsageError
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid

DIRECTIONS = ["identity", "flipped", "oblique", "permuted"]


pytestmark = pytest.mark.usefixtures("one_thread")


def pair(fixed: Grid, moving: Grid, matrix: np.ndarray, size: float = 0.0) -> tuple[Volume, Volume]:
    """Two images in memory; ``matrix @ bend(x)`` is the true map from fixed to moving points."""
    there = moved(matrix, bend(points_of(fixed), size))
    return (
        Volume(body(there).astype(np.float32), fixed),
        Volume(body(points_of(moving)).astype(np.float32), moving),
    )


def error(found: np.ndarray, true: np.ndarray, grid: Grid) -> float:
    """Largest distance in mm between two maps inside the body."""
    points = points_of(grid).reshape(-1, grid.ndim)
    points = points[((points - grid.centre) ** 2).sum(1) < 18.0**2]
    return float(np.linalg.norm(moved(found, points) - moved(true, points), axis=1).max())


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("method", "matrix", "bound"),
    [
        ("rigid", transform(3, (6.0, -4.0, 3.0)), 0.6),
        ("rigid", transform(3, (3.0, 2.0, -4.0), degrees=9), 0.6),
        ("affine", transform(3, (-3.0, 2.0, 3.0), degrees=-6, scale=1.12), 1.5),
    ],
    ids=["translation", "rotation", "scale"],
)
def test_linear_motion_in_3d(direction: str, method: str, matrix: np.ndarray, bound: float) -> None:
    """Largest error in mm inside the body; the voxels are 2 by 2 by 5 mm."""
    fixed = make_grid(direction, SIZE3)
    moving = make_grid("flipped", (34, 36, 14), (2.1, 2.2, 4.6), (11.0, -19.0, 31.0))
    result = regtool.register(*pair(fixed, moving, matrix), method)
    assert error(result.affine, matrix, fixed) < bound
    assert error(result.affine, matrix, fixed) < 0.4 * error(np.eye(4), matrix, fixed)
    assert np.abs(result.field).max() == 0
    if method == "rigid":
        assert np.linalg.det(result.affine[:3, :3]) == pytest.approx(1, abs=1e-9)
    else:
        assert np.linalg.det(result.affine[:3, :3]) > 1.2


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("method", "matrix"),
    [
        ("rigid", transform(2, (5.0, -3.0), degrees=7)),
        ("affine", transform(2, (-4.0, 2.0), degrees=-5, scale=0.9)),
    ],
    ids=["rotation", "scale"],
)
def test_linear_motion_in_2d(direction: str, method: str, matrix: np.ndarray) -> None:
    fixed = make_grid(direction, SIZE2)
    moving = make_grid("oblique", (50, 46), (1.6, 1.5), (11.0, -19.0))
    result = regtool.register(*pair(fixed, moving, matrix), method)
    assert error(result.affine, matrix, fixed) < 0.5, "mm; the pixels are 1.5 by 1.8 mm"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_linear_motion_of_one_slice(direction: str) -> None:
    """In-plane motion of a volume of one slice, wherever its plane lies."""
    fixed = make_grid(direction, (*SIZE2, 1), (1.5, 1.8, 8.0))
    axes = fixed.direction_matrix
    flat = transform(3, (0, 0, 0), degrees=6)
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ flat[:3, :3] @ axes.T
    shift = axes @ (4.0, -2.0, 0.0)
    matrix[:3, 3] = fixed.centre - matrix[:3, :3] @ fixed.centre + shift
    result = regtool.register(*pair(fixed, fixed, matrix), "rigid")
    assert error(result.affine, matrix, fixed) < 0.4


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_shift_as_a_field(direction: str) -> None:
    """A network's displacement in voxels becomes millimetres in the right direction."""
    grid = make_grid(direction, (36, 36, 14), (2.0, 2.4, 4.0))
    images = pair(grid, grid, transform(3, (2.5, -2.0, 3.0)))
    settings = {"iterations": (40, 30), "smoothness": 0.05, "similarity": "mse"}
    result = regtool.register(*images, "optimise", settings=settings)
    points = points_of(grid)
    inside = ((points - grid.centre) ** 2).sum(-1) < 14.0**2
    assert np.abs(np.median(result.field[inside], 0) - (2.5, -2.0, 3.0)).max() < 0.5


@pytest.mark.parametrize("ndim", [2, 3])
def test_storage_does_not_matter(ndim: int) -> None:
    """One physical pair, stored flipped and with its axes exchanged: one physical field."""
    size = (30, 26, 12)[:ndim]
    spacing = (2.0, 2.3, 4.0)[:ndim]
    grid = make_grid("oblique", size, spacing)
    fixed, moving = pair(grid, grid, transform(ndim, (1.0, -1.5, 1.0)), 2.0)
    settings = {"iterations": (20, 15), "smoothness": 1.0}
    plain = regtool.register(fixed, moving, "optimise", settings=settings)
    again = [restored(v, ndim) for v in (fixed, moving)]
    assert not again[0].grid.same_as(grid)
    other = regtool.register(*again, "optimise", settings=settings)
    back = np.transpose(np.flip(other.field, -2), (*_swap(ndim), ndim))
    difference = np.linalg.norm(back - plain.field, axis=-1)
    assert difference.max() < 1e-3, "mm"
    assert np.abs(plain.field).max() > 1


def _swap(ndim: int) -> tuple[int, ...]:
    """Array axes with x and y exchanged."""
    return (0, 2, 1) if ndim == 3 else (1, 0)


def restored(volume: Volume, ndim: int) -> Volume:
    """The same image with x and y exchanged and the new x axis reversed."""
    grid = volume.grid
    array = np.flip(np.transpose(volume.array, _swap(ndim)), -1).copy()
    order = [1, 0, 2][:ndim]
    size = tuple(grid.size[a] for a in order)
    spacing = tuple(grid.spacing[a] for a in order)
    axes = grid.direction_matrix[:, order] * np.asarray([-1, 1, 1][:ndim])
    corner = grid.index_to_world @ np.asarray([0, grid.size[1] - 1, 0, 1])[[*range(ndim), 3]]
    turned = Grid(size, spacing, tuple(axes.ravel()), tuple(corner[:ndim]))
    return Volume(array, turned)


@pytest.mark.parametrize("method", ["rigid", "affine", "voxelmorph", "voxelmorph-diff"])
def test_identity_pair(method: str) -> None:
    """Equal images: nothing moves, and the moving image comes back."""
    grid = make_grid("oblique", (40, 36), (1.5, 1.8))
    image = Volume(body(points_of(grid)).astype(np.float32), grid)
    options = {"weights": "none"} if method.startswith("voxelmorph") else {}
    result = regtool.register(image, image, method, **options)
    assert np.abs(result.field).max() < 1e-3 * 1.5
    if method == "affine":  # mutual information is a little better beside the truth
        assert error(result.affine, np.eye(3), grid) < 0.4
        return
    assert np.abs(result.affine - np.eye(3)).max() < 1e-9
    assert np.abs(result.warped - image.array).max() < 1e-3 * np.ptp(image.array)
    assert result.record["warnings"] == []


def test_sizes_that_fit_no_network() -> None:
    """Odd sizes, and sizes below the network's own, come back on the fixed grid."""
    for size in ((33, 27), (9, 11), (5, 4)):
        grid = make_grid("flipped", size, (3.0, 3.0))
        for method, options in (("voxelmorph", {"weights": "none"}), ("optimise", {})):
            settings = {"iterations": (3, 3)} if method == "optimise" else {}
            images = pair(grid, grid, transform(2, (1.0, 0.0)))
            result = regtool.register(*images, method, settings=settings, **options)
            assert result.field.shape == (*grid.shape, 2)
            assert np.isfinite(result.field).all()


def test_thick_slices_do_not_drift() -> None:
    """Six slices of 10 mm: a purely in-plane motion stays in the plane."""
    grid = make_grid("flipped", (40, 36, 6), (1.6, 1.8, 10.0))
    matrix = transform(3, (3.0, -2.0, 0.0), degrees=5)
    result = regtool.register(*pair(grid, grid, matrix), "rigid")
    assert error(result.affine, matrix, grid) < 1.0


def test_python_interface(tmp_path: Path) -> None:
    """Nothing is written without a prefix; with one, the same record as the command line."""
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    files = write_pair(tmp_path, grid, grid, transform(2, (1.0, -1.0)), 1.5)
    settings = {"iterations": (3, 2)}
    args = (files["fixed"], str(files["moving"]), "optimise")
    result = regtool.register(*args, settings=settings)
    assert result.outputs == {} and len(list(tmp_path.iterdir())) == len(files)
    assert result.field.shape == (*grid.shape, 2) and result.field.dtype == np.float32
    written = regtool.register(
        *args, settings=settings, output=tmp_path / "p_", inverse=True,
        moving_labels=files["moving_labels"],
    )  # fmt: skip
    assert json.loads(written.outputs["regtool.json"].read_text("utf-8"))["schema"] == 1
    assert written.inverse is not None and written.warped_labels is not None
    assert np.array_equal(written.field, result.field)
    for path in written.outputs.values():
        assert path.is_file()
    with pytest.raises(UsageError, match="smothness"):
        regtool.register(*args, smothness=2)
    with pytest.raises(GeometryError, match="2-D"):
        three = make_grid("identity", (8, 8, 8), (2.0, 2.0, 2.0))
        regtool.register(files["fixed"], Volume(np.zeros(three.shape, np.float32), three), "rigid")


def test_images_in_memory_with_values_that_are_none() -> None:
    """One NaN would make every value of the prepared image one."""
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    sound = pair(grid, grid, np.eye(3))
    images = [Volume(np.array(image.array), image.grid) for image in sound]
    images[1].array[0, :3] = np.nan, np.inf, -np.inf
    sound[1].array[0, :3] = 0
    few = {"iterations": "3,2"}
    result = regtool.register(*images, "optimise", settings=few)
    assert any("3 NaN or infinite" in sentence for sentence in result.record["warnings"])
    assert np.array_equal(result.field, regtool.register(*sound, "optimise", settings=few).field)
    assert np.isnan(images[1].array[0, 0])  # the caller's own array is left alone
    for points in (np.zeros((0, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(InputError, match="landmarks"):
            regtool.register(*sound, "rigid", fixed_points=points, moving_points=points)


def test_global_state_is_left_alone(tmp_path: Path) -> None:
    """Threads of torch and ITK are what they were, also after an error."""
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    images = pair(grid, grid, np.eye(3))
    torch.set_num_threads(2)
    itk = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        regtool.register(*images, "rigid", threads=1)
        with pytest.raises(GeometryError):
            regtool.register(images[0], save(tmp_path / "x.nii", np.zeros((3, 3, 3)), make_grid(
                "identity", (3, 3, 3))), "rigid", threads=1)  # fmt: skip
        assert torch.get_num_threads() == 2
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == itk
        assert torch.is_grad_enabled()
    finally:
        torch.set_num_threads(1)
