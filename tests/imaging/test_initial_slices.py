"""Initial alignment in two dimensions: slices of parallel, tilted and any planes."""

from __future__ import annotations

import numpy as np
import pytest
from imaging_cases import centred, rotation
from initial_cases import FLIP, error_mm, permuted, scan, truth

from regtool.errors import GeometryError
from regtool.imaging.initial import (
    initial_transform,
    overlap,
)
from regtool.imaging.resample import transform_points
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_two_dimensions(kind: str) -> None:
    expected = truth(2, kind == "affine")
    fixed = scan(centred((90, 80), (1.5, 1.5), np.diag([-1.0, -1.0])), np.eye(3))
    moving = scan(centred((70, 100), (1.8, 1.3), rotation(2, 2)), expected)
    assert error_mm(initial_transform(kind, fixed, moving), expected) < 1.0


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_single_slices_of_parallel_planes(kind: str) -> None:
    expected = truth(3, False)
    expected[:3, :3] = np.eye(3)
    expected[:2, :2] = truth(2, kind == "affine")[:2, :2]
    expected[:3, 3] = 14, -6, 3
    fixed = scan(Grid((90, 80, 1), (1.5, 1.5, 8.0), tuple(FLIP.ravel()), (66, 60, 0.0)), np.eye(4))
    axes = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])  # stored transposed: a reflection
    moving = scan(
        Grid((100, 90, 1), (1.4, 1.4, 8.0), tuple(axes.ravel()), (-60, -70, 3.0)), expected
    )
    found = initial_transform(kind, fixed, moving)
    flat = np.random.default_rng(0).uniform(-25, 25, (100, 3)) * [1, 1, 0]
    apart = transform_points(flat, [found]) - transform_points(flat, [expected])
    assert np.linalg.norm(apart, axis=1).mean() < 1.0
    assert np.linalg.det(found[:3, :3]) > 0
    assert overlap(fixed.grid, moving.grid, found) > 0.5


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)])
def test_single_slices_along_any_axis(order: tuple[int, int, int]) -> None:
    """The one slice is found along whichever axis of the file, of each image by itself."""
    expected = truth(3, False)
    expected[:3, :3] = np.eye(3)
    expected[:2, :2] = truth(2, False)[:2, :2]
    fixed = scan(Grid((90, 80, 1), (1.5, 1.5, 8.0), tuple(FLIP.ravel()), (66, 60, 0.0)), np.eye(4))
    axes = np.eye(3)
    moving = scan(
        Grid((100, 90, 1), (1.4, 1.4, 8.0), tuple(axes.ravel()), (-60, -70, 4.0)), expected
    )
    plain = initial_transform("rigid", fixed, moving)
    mask = Volume(np.ones_like(fixed.array, np.uint8), fixed.grid)
    found = initial_transform(
        "rigid", permuted(fixed, order), moving, fixed_mask=permuted(mask, order)
    )
    assert error_mm(found, plain) < 0.3
    other = initial_transform("rigid", fixed, permuted(moving, order))
    assert error_mm(other, plain) < 0.3


def test_single_slices_of_tilted_planes() -> None:
    """The plane is carried onto the plane: every fixed voxel reads inside the moving slice."""
    fixed = scan(Grid((90, 80, 1), (1.5, 1.5, 8.0), tuple(FLIP.ravel()), (66, 60, 0.0)), np.eye(4))
    tilt = np.eye(4)
    c, s = np.cos(0.4), np.sin(0.4)
    tilt[1:3, 1:3] = (c, -s), (s, c)
    tilt[:3, 3] = 5, 3, 20
    corner = (tilt @ np.array([66, 60, 0, 1.0]))[:3]
    direction = tuple((tilt[:3, :3] @ FLIP).ravel())
    moving = scan(Grid(fixed.grid.size, (1.5, 1.5, 8.0), direction, tuple(corner)), tilt)
    found = initial_transform("rigid", fixed, moving)
    flat = np.random.default_rng(0).uniform(-25, 25, (100, 3)) * [1, 1, 0]
    apart = transform_points(flat, [found]) - transform_points(flat, [tilt])
    assert np.linalg.norm(apart, axis=1).mean() < 1.0


def test_a_slice_of_a_volume() -> None:
    expected = truth(3, False)
    expected[:3, :3] = np.eye(3)
    expected[:2, :2] = truth(2, False)[:2, :2]
    expected[:3, 3] = 8, -6, 0
    volume = scan(centred((64, 60, 52), (2.0, 2.0, 2.0), FLIP), np.eye(4))
    grid = Grid((90, 80, 1), (1.5, 1.5, 4.0), tuple(FLIP.ravel()), (66, 60, 0.0))
    piece = scan(grid, np.linalg.inv(expected))
    assert error_mm(initial_transform("rigid", piece, volume), expected) < 1.0
    with pytest.raises(GeometryError, match="exchange"):
        initial_transform("rigid", volume, piece)
