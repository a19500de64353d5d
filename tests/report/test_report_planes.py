"""Slices hang as a radiologist expects, whatever the header's axes."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from registration_cases import make_grid

from regtool.imaging.itk import grid_of
from regtool.report.planes import letters_of, planes
from regtool.spatial.grid import Grid

RANDOM = np.random.default_rng(3)
SIGNED = [
    np.eye(3)[list(p)] * np.asarray(s) for p in permutations(range(3)) for s in product((1, -1),
                                                                                      repeat=3)
]  # fmt: skip


def test_pictures_are_those_of_the_volume_in_lps() -> None:
    """All 48 axis-aligned directions, against SimpleITK's reorientation."""
    values = RANDOM.normal(size=(4, 5, 6)).astype(np.float32)
    for matrix in SIGNED:
        image = sitk.GetImageFromArray(values)
        image.SetDirection(matrix.ravel().tolist())
        image.SetSpacing((1.0, 1.1, 1.2))
        grid = grid_of(image)
        oriented = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))  # z up, y back, x left
        wanted = {
            "Axial": oriented,
            "Coronal": oriented.transpose(1, 0, 2)[:, ::-1],
            "Sagittal": oriented.transpose(2, 0, 1)[:, ::-1],
        }
        for plane in planes(grid):
            pictures = [plane.take(values, n) for n in range(plane.count)]
            found = {p.tobytes() for p in map(np.ascontiguousarray, pictures)}
            assert found == {np.ascontiguousarray(p).tobytes() for p in wanted[plane.name]}
            assert pictures[0].shape == plane.shape


def test_letters() -> None:
    named = {p.name: p.letters for p in planes(make_grid("flipped", (8, 8, 8), (1.0, 1.0, 1.0)))}
    assert named == {
        "Axial": ("A", "L", "P", "R"),
        "Coronal": ("S", "L", "I", "R"),
        "Sagittal": ("S", "P", "I", "A"),
    }
    assert letters_of(np.asarray([-0.8, 0.1, 0.6])) == "RS"
    assert letters_of(np.asarray([0.1, 0.05, -0.99])) == "I"


@pytest.mark.parametrize("direction", ["identity", "flipped", "oblique", "permuted"])
def test_world_points_and_axes_agree_with_the_picture(direction: str) -> None:
    grid = make_grid(direction, (7, 8, 9), (1.0, 2.0, 3.0))
    for plane in planes(grid):
        points = plane.world(grid, 2)
        assert points.shape == (*plane.shape, 3)
        np.testing.assert_allclose(points[0, 1] - points[0, 0], plane.right * plane.spacing[1])
        np.testing.assert_allclose(points[1, 0] - points[0, 0], plane.down * plane.spacing[0])
        assert plane.extent == (
            plane.shape[0] * plane.spacing[0],
            plane.shape[1] * plane.spacing[1],
        )


def test_the_acquired_stack_comes_first() -> None:
    thick_y = Grid((30, 8, 30), (1.0, 8.0, 1.0), tuple(np.eye(3).ravel()), (0.0, 0.0, 0.0))
    assert planes(thick_y)[0].name == "Coronal"
    cube = Grid((9, 9, 9), (1.0, 1.2, 1.0), tuple(np.eye(3).ravel()), (0.0, 0.0, 0.0))
    assert [p.name for p in planes(cube)] == ["Axial", "Coronal", "Sagittal"]


def test_one_slice_has_one_plane() -> None:
    found = planes(Grid((9, 8, 1), (1.0, 1.0, 5.0), tuple(np.eye(3).ravel()), (0.0, 0.0, 0.0)))
    assert [(p.name, p.shape) for p in found] == [("Axial", (8, 9))]


@pytest.mark.parametrize(
    ("matrix", "picture"),
    [
        ([[1, 0], [0, 1]], [[0, 1, 2], [3, 4, 5]]),
        ([[-1, 0], [0, -1]], [[5, 4, 3], [2, 1, 0]]),
        ([[0, 1], [1, 0]], [[0, 3], [1, 4], [2, 5]]),
        ([[0, -1], [1, 0]], [[3, 0], [4, 1], [5, 2]]),
    ],
)
def test_flat_images_run_right_and_down(matrix: list, picture: list) -> None:
    direction = tuple(float(v) for v in np.ravel(matrix))
    (plane,) = planes(Grid((3, 2), (1.0, 2.0), direction, (0.0, 0.0)))
    shown = plane.take(np.arange(6).reshape(2, 3), 0)
    np.testing.assert_array_equal(shown, picture)
    assert plane.shape == shown.shape and plane.letters == ("", "", "", "")


def test_tilt_in_degrees() -> None:
    c, s = np.cos(np.deg2rad(25)), np.sin(np.deg2rad(25))
    matrix = np.asarray([[1, 0, 0], [0, c, -s], [0, s, c]])
    grid = Grid((8, 8, 8), (1.0,) * 3, tuple(matrix.ravel()), (0.0,) * 3)
    tilts = {p.name: p.tilt for p in planes(grid)}
    assert tilts["Axial"] == pytest.approx(25) and tilts["Sagittal"] == pytest.approx(0)
