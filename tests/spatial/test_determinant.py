"""Determinants against the analytic value on every kind of grid, and the fold summary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regtool.spatial.grid import Grid
from regtool.spatial.jacobian import FoldSummary, field_jacobian, folds, jacobian_determinant
from regtool.spatial.smooth import gaussian

C, S = np.cos(0.4), np.sin(0.4)
OBLIQUE = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]]) @ np.array(
    [[1, 0, 0], [0, C, S], [0, -S, C]]
)
DIRECTIONS = {
    "identity": np.eye(3),
    "ras": np.diag([-1.0, -1.0, 1.0]),
    "one reflection": np.diag([1.0, -1.0, 1.0]),
    "permuted": np.eye(3)[[2, 0, 1]],
    "oblique": OBLIQUE,
    "oblique reflection": OBLIQUE @ np.diag([1.0, 1.0, -1.0]),
}


def affine_field(grid, linear):
    """u(x) = (A - I) x at every voxel, (*grid.shape, ndim), LPS mm."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    m = grid.index_to_world
    world = index[..., ::-1] @ m[:-1, :-1].T + m[:-1, -1]
    return world @ (linear - np.eye(grid.ndim)).T


@pytest.mark.parametrize("name", DIRECTIONS)
def test_affine_determinant_in_3d(name):
    grid = Grid((5, 6, 7), (0.8, 1.1, 3.0), tuple(DIRECTIONS[name].ravel()), (10.0, -20.0, 5.0))
    linear = np.diag([1.3, 1.0, 0.9]) + 0.05 * np.arange(9).reshape(3, 3)
    det = field_jacobian(affine_field(grid, linear), grid)
    assert det.shape == grid.shape
    np.testing.assert_allclose(det, np.linalg.det(linear), atol=1e-9)


@pytest.mark.parametrize("direction", [(1, 0, 0, 1), (-1, 0, 0, 1), (0, 1, -1, 0), (C, S, -S, C)])
def test_affine_determinant_in_2d(direction):
    grid = Grid((6, 5), (1.5, 0.7), tuple(float(d) for d in direction), (1.0, 2.0))
    linear = np.array([[1.3, 0.2], [-0.1, 0.8]])
    np.testing.assert_allclose(
        field_jacobian(affine_field(grid, linear), grid), np.linalg.det(linear), atol=1e-9
    )


@pytest.mark.parametrize("name", ["identity", "oblique reflection"])
def test_one_slice_has_its_in_plane_determinant(name):
    direction = DIRECTIONS[name]
    grid = Grid((6, 7, 1), (0.8, 1.1, 8.0), tuple(direction.ravel()), (1.0, 2.0, 3.0))
    plane = np.eye(3)
    plane[:2, :2] = [[1.3, 0.2], [-0.1, 0.8]]
    linear = direction @ plane @ direction.T
    expected = np.linalg.det(plane)
    np.testing.assert_allclose(
        field_jacobian(affine_field(grid, linear), grid), expected, atol=1e-9
    )


def test_shape_of_the_field_is_checked():
    grid = Grid((6, 5), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    with pytest.raises(ValueError, match="grid"):
        field_jacobian(np.zeros((6, 5, 2)), grid)


@pytest.mark.parametrize("shape", [(7, 8), (5, 6, 7), (1, 6, 7), (6, 1, 1)])
def test_zero_field_has_determinant_one(shape):
    zero = torch.zeros(2, len(shape), *shape)
    assert (jacobian_determinant(zero) == 1).all()
    assert (jacobian_determinant(zero, scheme="forward") == 1).all()
    summary = folds(jacobian_determinant(zero)[0])
    assert (summary.count, summary.sd, summary.sd_log, summary.mean) == (0, 0.0, 0.0, 1.0)


def test_determinant_equals_linalg_and_slabs_equal_the_whole():
    u = (
        gaussian(torch.randn(1, 3, 40, 130, 130, generator=torch.Generator().manual_seed(0)), 1.5)
        * 5
    )
    whole = jacobian_determinant(u.clone().requires_grad_())  # the path with a gradient: no slabs
    assert torch.equal(jacobian_determinant(u), whole.detach())
    small = u[:, :, :5, :6, :7].double()
    g = torch.stack([torch.stack(torch.gradient(small[0, i])) for i in range(3)])
    expected = torch.linalg.det(g.permute(2, 3, 4, 0, 1) + torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(jacobian_determinant(small)[0], expected)


def test_forward_scheme_shape_and_value():
    u = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    det = jacobian_determinant(u, scheme="forward")
    assert det.shape == (1, 4, 5)
    dy, dx = u[0, :, 1:, :-1] - u[0, :, :-1, :-1], u[0, :, :-1, 1:] - u[0, :, :-1, :-1]
    torch.testing.assert_close(det[0], (1 + dy[0]) * (1 + dx[1]) - dx[0] * dy[1])


def test_spacing_is_for_displacements_in_mm():
    u = torch.randn(1, 3, 5, 6, 7)
    spacing = (2.0, 0.5, 3.0)
    mm = u * torch.tensor(spacing).reshape(1, 3, 1, 1, 1)
    torch.testing.assert_close(jacobian_determinant(mm, spacing), jacobian_determinant(u))


def test_folds_leave_out_the_outermost_layer():
    det = torch.full((5, 6, 7), -1.0)
    det[1:-1, 1:-1, 1:-1] = 1.0
    assert folds(det).count == 0
    det[2, 2, 2] = -0.5
    summary = folds(det)
    assert isinstance(summary, FoldSummary)
    assert (summary.count, summary.voxels, summary.min) == (1, 3 * 4 * 5, -0.5)
    assert summary.percent == pytest.approx(100 / 60)
    assert summary.floored == 1
    assert summary.as_dict()["count"] == 1


def test_folds_keep_single_slices_and_follow_the_mask():
    det = torch.ones(1, 5, 5)
    det[0, 2, 2] = 0.0
    assert folds(det).count == 1
    mask = torch.zeros(1, 5, 5)
    mask[0, 1, 1] = 1
    assert (folds(det, mask).count, folds(det, mask).voxels) == (0, 1)
    with pytest.raises(ValueError, match="mask"):
        folds(det, torch.zeros(1, 5, 5))


def test_not_a_number_counts_as_a_fold():
    det = torch.ones(4, 4)
    det[1, 1] = float("nan")
    assert folds(det).count == 1
