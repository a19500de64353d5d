"""Frames: points, displacements and directions on grids that are turned and stored in any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from registration_cases import DIRECTIONS3, make_grid

from regtool.spatial.compose import affine_to_displacement
from regtool.spatial.frames import (
    affine_to_world,
    axis_directions,
    grid_points,
    index_map,
    points_to_displacement,
    to_network_displacement,
    to_world_field,
)
from regtool.spatial.grid import Grid, centroid

AFFINE = np.array(
    [[1.1, 0.05, 0.0, 2.0], [-0.1, 0.95, 0.02, -1.0], [0.0, 0.03, 1.05, 0.5], [0, 0, 0, 1.0]]
)
"""In voxels of a network, tensor axis order."""


@pytest.fixture(params=sorted(DIRECTIONS3))
def grid(request) -> Grid:
    return make_grid(request.param, (6, 5, 4), (1.0, 1.5, 4.0))


def test_points_are_those_of_the_flattened_array(grid):
    points = grid_points(grid)
    assert points.shape == (120, 3)
    z, y, x = 3, 1, 4
    at = np.ravel_multi_index((z, y, x), grid.shape)
    np.testing.assert_allclose(points[at], (grid.index_to_world @ [x, y, z, 1.0])[:3])


def test_an_affine_in_voxels_and_in_the_world_move_the_same_points(grid):
    """The displacement in voxels, and the world points it leads to."""
    u = affine_to_displacement(torch.from_numpy(AFFINE)[None], grid.shape)[0]
    assert u.dtype == torch.float64
    world = affine_to_world(AFFINE, grid)
    moved = grid_points(grid) @ world[:3, :3].T + world[:3, 3]
    found = points_to_displacement(moved, grid)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), u, atol=1e-5, rtol=0)
    field = to_world_field(found, grid, grid)
    np.testing.assert_allclose(field.reshape(-1, 3), moved - grid_points(grid), atol=1e-4)
    again = to_network_displacement(field, grid, grid)
    torch.testing.assert_close(again, found, atol=1e-5, rtol=0)


def test_a_shift_in_the_world_is_the_same_on_another_grid(grid):
    """Every voxel of a coarser grid that lies turned within gets the shift in its own voxels."""
    other = make_grid("oblique", (3, 4, 5), (2.0, 2.0, 2.0))
    shift = np.array([1.0, -2.0, 0.5], np.float32)
    field = np.broadcast_to(shift, (*grid.shape, 3))
    u = to_network_displacement(field, grid, other)
    wanted = np.linalg.solve(other.index_to_world[:3, :3], shift)[::-1].copy()
    assert u.shape == (3, *other.shape)
    torch.testing.assert_close(
        u.flatten(1), torch.from_numpy(wanted).float()[:, None].expand(3, 60), atol=1e-5, rtol=0
    )
    there = index_map(other, grid) @ index_map(grid, other)
    np.testing.assert_allclose(there, np.eye(4), atol=1e-9)


def test_directions_are_the_columns_in_tensor_order(grid):
    z, y, x = axis_directions(grid)
    np.testing.assert_allclose(np.stack([x, y, z], 1), grid.direction_matrix)


def test_outside_the_network_s_grid_the_field_fades_smoothly_and_only_there():
    network = Grid((5, 4), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    wide = Grid((25, 4), (0.5, 1.0), (1.0, 0.0, 0.0, 1.0), (-4.0, 0.0))
    u = torch.zeros(2, 4, 5)
    u[1] = 3.0
    x = np.arange(25) * 0.5 - 4.0
    t = np.clip((np.maximum(-x, x - 4) - 0.5) / 2, 0, 1)
    faded = to_world_field(u, network, wide, taper=2)
    np.testing.assert_allclose(faded[2, :, 0], 3 * (1 - 3 * t**2 + 2 * t**3), atol=1e-6)
    assert (faded[..., 1] == 0).all()
    np.testing.assert_allclose(to_world_field(u, network, wide)[..., 0], 3.0, atol=1e-6)


def test_a_grid_has_one_number_of_dimensions():
    for spacing, direction, origin in (
        ((1.0,), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0)),
        ((1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0)),
        ((1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0,)),
    ):
        with pytest.raises(ValueError, match="disagree"):
            Grid((4, 5), spacing, direction, origin)


def test_the_centroid_depends_on_the_weights_proportions_alone():
    plane = Grid((4, 3), (2.0, 1.0), (1.0, 0.0, 0.0, 1.0), (10.0, 0.0))
    weights = np.zeros((3, 4))
    weights[1, 1], weights[2, 3] = 3e-4, 1e-4
    assert centroid(weights, plane) == pytest.approx([10 + 2 * 1.5, 1.25])
    assert centroid(1e6 * weights, plane) == pytest.approx([10 + 2 * 1.5, 1.25])
    assert centroid(np.zeros((3, 4)), plane) is None
