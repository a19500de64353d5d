"""Repair of folds, judged on the file as written and read again, by determinants in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fold_cases import jacobians, noise_field, smooth_noise, world_field
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_cases import DIRECTIONS2, DIRECTIONS3, make_grid
from scipy.optimize import minimize

from regtool.imaging.transforms import read_field, write_field
from regtool.spatial import repair as module
from regtool.spatial.repair import repair, scan_displacement, shrunk
from regtool.spatial.repair_field import repair_field
from regtool.spatial.smooth import gaussian

NDIM = st.sampled_from([2, 2, 3])
AMPLITUDES = st.sampled_from([0.4, 1.0, 3.0, 50.0, 1e4])


def check(field, grid, folder):
    """Repair, write, read again: no determinant is left that is not positive."""
    mended, done = repair_field(field, grid)
    path = folder / "field.nii.gz"
    write_field(path, mended, grid)
    read, where = read_field(path)
    assert read.tobytes() == mended.tobytes()
    after = jacobians(read, where)
    assert after["central"].min() > 0 and after["corner"].min() > 0
    assert (done.after.central, done.after.corner) == (0, 0)
    return mended, done


@settings(max_examples=20, deadline=None)
@given(data=st.data(), ndim=NDIM, amplitude=AMPLITUDES, seed=st.integers(0, 999))
def test_no_fold_is_left_in_the_file(tmp_path_factory, data, ndim, amplitude, seed):
    most = 9 if ndim == 2 else 5
    shape = tuple(data.draw(st.lists(st.integers(2, most), min_size=ndim, max_size=ndim)))
    direction = data.draw(st.sampled_from(sorted(DIRECTIONS2 if ndim == 2 else DIRECTIONS3)))
    width = data.draw(st.sampled_from([0.0, 1.0, 2.0]))
    field, grid = noise_field(shape, direction, amplitude, width, seed)
    before = jacobians(field, grid)
    mended, done = check(field, grid, tmp_path_factory.mktemp("repair"))
    assert done.before.corner == pytest.approx((before["corner"] <= 0).sum(), abs=1)
    if before["corner"].min() > 1e-5:
        assert mended.tobytes() == field.tobytes()


@pytest.mark.parametrize("direction", ["flipped", "oblique"])
@pytest.mark.parametrize("shape", [(24, 20), (7, 14, 12)])
def test_mild_folds_cost_little_and_only_where_they_are(shape, direction, tmp_path):
    field, grid = noise_field(shape, direction, 0.9, 2.0, 3)
    before = jacobians(field, grid)
    inner = tuple(slice(1, -1) for _ in shape)
    mended, done = check(field, grid, tmp_path)
    assert done.before.corner == (before["corner"] <= 0).sum() > 0
    assert done.before.central == (before["central"][inner] <= 0).sum()
    moved = np.linalg.norm(mended.astype(np.float64) - field, axis=-1)
    assert done.changed_voxels == (moved > 0).sum() < 0.5 * moved.size
    assert done.moved_mm_max == pytest.approx(moved.max())
    assert done.moved_mm_mean == pytest.approx(moved[moved > 0].mean())

    sigma, smooth = 0.2, field
    while min(d.min() for d in jacobians(smooth, grid).values()) <= 0:
        channels = torch.from_numpy(field.astype(np.float64)).movedim(-1, 0)[None]
        smooth = gaussian(channels, sigma)[0].movedim(0, -1).numpy()
        sigma *= 1.05
    assert np.linalg.norm(mended - field) < 0.4 * np.linalg.norm(smooth - field)


def test_far_from_a_fold_nothing_changes(tmp_path):
    field, grid = noise_field((30, 26), "oblique", 0.1, 2.0, 0)
    step = np.linalg.solve(grid.index_to_world[:-1, :-1], field[10, 10])
    assert np.abs(step).max() < 1
    field[10, 10] += grid.index_to_world[:-1, :-1] @ np.array([1.6, 0.4], np.float32)
    mended, done = check(field, grid, tmp_path)
    moved = np.argwhere((mended != field).any(-1))
    assert 0 < len(moved) == done.changed_voxels
    assert np.abs(moved - 10).max() <= 3


@pytest.mark.parametrize("shape", [(12, 10), (5, 8, 7), (1, 9, 8)])
def test_a_field_without_folds_keeps_every_bit(shape):
    field, grid = noise_field(shape, "oblique", 0.05, 1.0, 1)
    given_bits = field.tobytes()
    mended, done = repair_field(field, grid)
    assert mended.tobytes() == field.tobytes() == given_bits
    assert (done.before.corner, done.changed_voxels, done.moved_mm_max) == (0, 0, 0.0)


def test_change_is_near_the_least_possible():
    u = smooth_noise((6, 6), 0.9, 1.0, 5)
    grid = make_grid("identity", (6, 6), (1.0, 1.0))

    def room(x):
        exact = x.reshape(u.shape)[..., ::-1]
        return jacobians(exact, grid)["corner"].ravel() - module.FLOOR

    assert room(u.ravel()).min() < -0.1
    best = minimize(
        lambda x: ((x - u.ravel()) ** 2).sum(), u.ravel(), jac=lambda x: 2 * (x - u.ravel()),
        constraints={"type": "ineq", "fun": room}, method="SLSQP",
    )  # fmt: skip
    assert best.success and room(best.x).min() > -1e-6
    mended = repair(torch.from_numpy(u).movedim(-1, 0)[None])[0].movedim(0, -1).numpy()
    assert room(mended.ravel()).min() >= 0
    assert np.linalg.norm(mended - u) < 1.15 * np.sqrt(best.fun)


@pytest.mark.parametrize("direction", ["identity", "oblique"])
def test_slices_stay_slices(direction, tmp_path):
    u = smooth_noise((5, 12, 12), 1.0, 1.5, 2)
    u[..., 0] = 0
    grid = make_grid(direction, (12, 12, 5), (1.0, 1.2, 8.0))
    field = world_field(u, grid)
    mended, done = check(field, grid, tmp_path)
    assert done.before.corner > 0
    normal = grid.direction_matrix[:, 2]
    assert np.abs(mended @ normal).max() < 1e-5
    alone, _ = repair_field(field[2:3], make_grid(direction, (12, 12, 1), (1.0, 1.2, 8.0)))
    np.testing.assert_allclose(mended[2], alone[0], atol=1e-4)


@pytest.mark.parametrize("direction", ["identity", "oblique", "permuted"])
def test_one_slice_volume(direction, tmp_path):
    grid = make_grid(direction, (10, 12, 1), (1.0, 1.2, 8.0))
    u = smooth_noise((1, 12, 10), 1.0, 1.5, 2)
    mended, done = check(world_field(u, grid), grid, tmp_path)
    assert done.before.corner > 0 and done.changed_voxels > 0
    through = np.linalg.solve(grid.index_to_world[:-1, :-1], mended.reshape(-1, 3).T)[2]
    np.testing.assert_allclose(through, u[..., 0].ravel(), atol=1e-4)


def test_fields_that_are_hopeless(tmp_path):
    grid = make_grid("oblique", (6, 5, 4), (1.0, 1.2, 8.0))
    noise = smooth_noise((4, 5, 6), 1.0, 0.0, 0)
    for u in (1e30 * noise, noise + 1e7, -2.0 * np.indices((4, 5, 6)).transpose(1, 2, 3, 0)):
        check(world_field(u, grid), grid, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("_ATTEMPTS", 0), ("_MOST_CELLS", 3), ("_PATIENCE", 1)]
)
def test_every_fallback_ends_without_folds(name, value, monkeypatch):
    monkeypatch.setattr(module, name, value)
    u = torch.from_numpy(smooth_noise((14, 14), 2.0, 1.0, 4)).movedim(-1, 0)[None]
    assert scan_displacement(u).count > 0
    assert scan_displacement(repair(u)).min > 0


def test_shrinking_is_no_more_than_needed():
    values = torch.tensor([[1.0, 3.0], [-4.0, 0.0]])
    found = shrunk(values, lambda v: float(v[0, 1] - v[0, 0]) <= 0.6)
    assert 0.5 < float(found[0, 1] - found[0, 0]) <= 0.6
    torch.testing.assert_close(found.mean(1), values.mean(1))
    assert torch.equal(shrunk(values, lambda v: not v.any()), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="zero"):
        shrunk(values, lambda v: False)


def test_batch_and_single_fields_agree():
    u = torch.stack([
        torch.from_numpy(smooth_noise((12, 11), 1.0, 1.5, seed)).movedim(-1, 0) for seed in (0, 1)
    ])  # fmt: skip
    both = repair(u, (1.0, 2.0))
    assert both.dtype == torch.float64 and scan_displacement(both).count == 0
    torch.testing.assert_close(both[:1], repair(u[:1], (1.0, 2.0)), atol=1e-9, rtol=0)


def test_refusals():
    grid = make_grid("identity", (6, 5), (1.0, 1.0))
    field = np.zeros((5, 6, 2), np.float32)
    with pytest.raises(ValueError, match="grid"):
        repair_field(field[:4], grid)
    field[2, 2, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        repair_field(field, grid)
    with pytest.raises(ValueError, match="floor"):
        repair(torch.zeros(1, 2, 4, 4), floor=0.0)
    with pytest.raises(ValueError, match="ndim"):
        repair(torch.zeros(2, 4, 4))
