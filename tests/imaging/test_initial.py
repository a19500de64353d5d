"""Initial alignment recovers known transforms, on every kind of volume, always the same."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from imaging_cases import centred, rotation
from initial_cases import FLIP, error_mm, permuted, scan, truth, world_points

from regtool.engine.device import computing, limited_threads
from regtool.errors import GeometryError, InputError
from regtool.imaging.initial import (
    centre_of_mass,
    check_overlap,
    initial_transform,
    overlap,
)
from regtool.imaging.itk import one_thread
from regtool.imaging.reading import read_image, read_labels
from regtool.imaging.resample import resample
from regtool.imaging.transforms import write_affine
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid


@pytest.mark.parametrize("kind", ["rigid", "affine"])
@pytest.mark.parametrize("direction", ["flipped", "oblique", "permuted"])
def test_volumes(kind: str, direction: str) -> None:
    axes = {"flipped": FLIP, "oblique": rotation(5, 3), "permuted": np.eye(3)[[2, 0, 1]]}
    fixed = scan(centred((49, 46, 40), (2.6, 2.6, 2.6), axes[direction]), np.eye(4))
    expected = truth(3, kind == "affine")
    moving = scan(centred((39, 54, 35), (3.1, 2.4, 3.5), FLIP), expected)
    found = initial_transform(kind, fixed, moving)
    assert error_mm(found, expected) < 1.8  # less than a voxel
    assert error_mm(np.eye(4), expected) > 10


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_thin_stack(kind: str) -> None:
    expected = truth(3, False)
    expected[:3, :3] = np.eye(3)
    expected[:2, :2] = truth(2, False)[:2, :2]
    fixed = scan(centred((88, 80, 6), (1.4, 1.4, 10.0), FLIP), np.eye(4))
    moving = scan(centred((80, 88, 6), (1.5, 1.5, 10.0), FLIP), expected)
    assert error_mm(initial_transform(kind, fixed, moving), expected, 20) < 2.5


@pytest.mark.parametrize("kind", ["rigid", "affine"])
@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)])
def test_a_stack_of_few_slices_does_not_tilt_whichever_axis_is_thin(
    kind: str, order: tuple[int, int, int]
) -> None:
    expected = truth(3, False)
    expected[:3, :3] = np.eye(3)
    expected[:2, :2] = truth(2, False)[:2, :2]
    fixed = scan(centred((88, 80, 4), (1.4, 1.4, 10.0), FLIP), np.eye(4))
    moving = scan(centred((80, 88, 4), (1.5, 1.5, 10.0), FLIP), expected)
    found = initial_transform(kind, permuted(fixed, order), permuted(moving, order))
    assert np.allclose(found[2, :2], 0, atol=1e-6) and np.allclose(found[:2, 2], 0, atol=1e-6)
    assert found[2, 2] == pytest.approx(1, abs=1e-6)
    assert error_mm(found, expected, 20) < 2.5


def test_the_same_every_time_and_whatever_the_threads() -> None:
    fixed = scan(centred((49, 46, 40), (2.6, 2.6, 2.6), FLIP), np.eye(4))
    moving = scan(centred((39, 54, 35), (3.1, 2.4, 3.5), FLIP), truth(3, True))
    found = []
    for threads in (1, 2):
        with limited_threads(threads):
            found.append(initial_transform("affine", fixed, moving))
    assert np.array_equal(*found)


def test_itk_has_one_thread_until_all_are_done_with_it() -> None:
    """Pairs are aligned in several threads of Python, beside others in which networks compute."""

    def count() -> int:
        return sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()

    with limited_threads(3):
        first, second = ExitStack(), ExitStack()
        first.enter_context(one_thread)
        with computing(torch.device("cpu"), torch.float32, 2):
            assert (count(), torch.get_num_threads()) == (1, 2)
            second.enter_context(one_thread)
        first.close()
        assert (count(), torch.get_num_threads()) == (1, 3)
        second.close()
        assert count() == 3


def test_masks_are_respected() -> None:
    grid = centred((64, 60, 52), (2.0, 2.0, 2.0), FLIP)
    expected = truth(3, False)
    fixed, moving = scan(grid, np.eye(4)), scan(grid, expected)
    points = world_points(grid)
    inside = ((points / [42.0, 34, 30]) ** 2).sum(-1) < 1
    spoiled = fixed.array.copy()
    spoiled[~inside] = np.random.default_rng(0).integers(0, 800, (~inside).sum())
    mask = Volume(inside.astype(np.uint8), grid)
    found = initial_transform("rigid", fixed.with_array(spoiled), moving, fixed_mask=mask)
    assert error_mm(found, expected) < 1.5


def test_far_apart_is_found_from_the_centres() -> None:
    fixed = scan(centred((50, 48, 40), (2.5, 2.5, 2.5), FLIP), np.eye(4))
    far = truth(3, False, shift=400.0)
    grid = centred((50, 48, 40), (2.5, 2.5, 2.5), FLIP)
    origin = (grid.origin[0] + 390, *grid.origin[1:])
    moving = scan(Grid(grid.size, grid.spacing, grid.direction, origin), far)
    with pytest.raises(GeometryError, match="--initial com"):
        check_overlap(fixed, moving, np.eye(4))
    for kind, limit in (("com", 12), ("rigid", 1.0)):
        found = initial_transform(kind, fixed, moving)
        assert error_mm(found, far) < limit
        assert overlap(fixed.grid, moving.grid, found) > 0.5


def test_a_small_moving_image_inside_a_large_fixed_one_overlaps() -> None:
    """It lies between the points at which the fixed grid is looked at."""
    fixed = Volume(np.zeros((400, 300), np.uint8), Grid((300, 400), (1.0, 1.0), (1, 0, 0, 1), (0.0,
                   0.0)))  # fmt: skip
    small = Grid((8, 8), (0.5, 0.5), (1, 0, 0, 1), (15.5, 19.5))
    moving = Volume(np.zeros((8, 8), np.uint8), small)
    assert overlap(fixed.grid, small, np.eye(3)) == 0
    check_overlap(fixed, moving, np.eye(3))
    far = np.eye(3)
    far[0, 2] = 400
    for matrix in (far, np.diag([0.0, 0.0, 1.0])):
        with pytest.raises(GeometryError, match="do not overlap"):
            check_overlap(fixed, moving, matrix)


def test_centre_of_mass_and_overlap() -> None:
    grid = centred((30, 20, 10), (1.0, 2.0, 3.0), rotation(4, 3))
    values = np.zeros(grid.shape, np.float32)
    values[2:5, 6:9, 10:13] = 100
    expected = grid.index_to_world @ np.array([11, 7, 3, 1.0])
    assert np.allclose(centre_of_mass(Volume(values, grid)), expected[:3])
    assert np.allclose(centre_of_mass(Volume(values * 0 + 3, grid)), grid.centre)
    assert overlap(grid, grid, np.eye(4)) == 1
    half = np.eye(4)
    half[:3, 3] = grid.direction_matrix[:, 0] * 15
    assert overlap(grid, grid, half) == pytest.approx(0.5, abs=0.05)


def test_none_file_and_errors(tmp_path: Path) -> None:
    grid = centred((20, 20, 8), (2.0, 2.0, 4.0), FLIP)
    fixed = scan(grid, np.eye(4))
    flat = scan(centred((20, 20), (2.0, 2.0), np.eye(2)), np.eye(3))
    assert np.array_equal(initial_transform("none", fixed, fixed), np.eye(4))
    write_affine(tmp_path / "a.mat", truth(3, True))
    assert np.allclose(initial_transform(tmp_path / "a.mat", fixed, fixed), truth(3, True))
    with pytest.raises(InputError, match="no such file"):
        initial_transform(tmp_path / "b.mat", fixed, fixed)
    with pytest.raises(GeometryError, match="2-D"):
        initial_transform("com", fixed, flat)
    empty = fixed.with_array(np.zeros(grid.shape, np.int16))
    with pytest.raises(GeometryError, match="constant"):
        initial_transform("rigid", fixed, empty)


def test_two_brains(shared_data: Path) -> None:
    """Tissue overlap of two people in their own poses rises clearly."""
    one, other = shared_data / "oasis" / "1017", shared_data / "oasis" / "1036"
    fixed, moving = read_image(one / "t1.nii.gz"), read_image(other / "t1.nii.gz")
    tissue = [read_labels(folder / "tissues.nii.gz") for folder in (one, other)]

    def dice(matrix: np.ndarray) -> float:
        warped = resample(tissue[1], fixed.grid, [matrix], "nearest")
        pairs = [(tissue[0].array == k, warped == k) for k in (1, 2, 3)]
        return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))

    found = initial_transform("affine", fixed, moving)
    assert dice(found) > max(0.45, dice(np.eye(4)) + 0.15)
