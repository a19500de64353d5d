"""Which labels and voxels count, and what the smallest terms of a loss are worth."""

from __future__ import annotations

import pytest
import torch

from regtool.losses.box import window_sizes
from regtool.losses.dice import soft_dice, soft_dice_maps
from regtool.losses.mse import mse
from regtool.losses.ncc import local_ncc, local_ncc_map


def test_background_is_no_label_of_its_own():
    fixed = torch.zeros(1, 1, 6, 6, dtype=torch.int64)
    moving = fixed.clone()
    fixed[..., :3, :2], fixed[..., 4:, 4:] = 4, -2
    moving[..., 1:3, :2], moving[..., 4:, 3:] = 4, -2
    overlaps = [2 * 4 / (6 + 4), 2 * 4 / (4 + 6)]
    assert float(soft_dice(fixed, moving)) == pytest.approx(1 - sum(overlaps) / 2, abs=1e-6)
    assert soft_dice(fixed, moving) == soft_dice(fixed, moving, labels=[4, -2])
    with_it = soft_dice(fixed, moving, labels=[-2, 0, 4])
    assert float(with_it) != pytest.approx(float(soft_dice(fixed, moving)), abs=1e-3)


def test_a_label_of_one_voxel_that_misses_costs_one_but_for_eps():
    fixed, moving = torch.zeros(2, 1, 1, 4, 4, dtype=torch.int64)
    fixed[..., 0, 0], moving[..., 3, 3] = 1, 1
    for eps in (1e-5, 1e-2):
        expected = 1 - eps / (2 + eps)
        assert float(soft_dice(fixed, moving, eps=eps)) == pytest.approx(expected, abs=1e-7)
    assert float(soft_dice(fixed, moving)) == pytest.approx(1 - 1e-5 / (2 + 1e-5), abs=1e-7)


def test_only_counted_maps_enter_the_mean():
    f = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    m = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    first = soft_dice_maps(f, m, torch.tensor([[True, False]]))
    torch.testing.assert_close(first, soft_dice_maps(f[:, :1], m[:, :1]))


def test_the_map_has_a_finite_gradient_where_no_weight_is_near():
    f = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    m = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(1)).requires_grad_()
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., :4, :4] = 1
    for squared in (True, False):
        found = local_ncc_map(f, m, 5, mask, squared)
        assert (found[mask == 0] == 0).all() and (found[mask > 0] != 0).all()
        (slope,) = torch.autograd.grad(found.sum(), m)
        assert slope.isfinite().all()
        value = local_ncc(f, m, 5, mask, squared)
        torch.testing.assert_close(value, -found.sum() / 16)


def test_windows_are_odd_and_one_for_each_axis():
    assert window_sizes((3, 5), (9, 9)) == (3, 5)
    assert window_sizes(7, (2, 9)) == (3, 7)
    for window in (4, -1, (3, 5, 7)):
        with pytest.raises(ValueError, match="odd"):
            window_sizes(window, (9, 9))


def test_mean_square_of_double_precision_stays_double():
    f, m = torch.rand(2, 1, 1, 5, 5, dtype=torch.float64)
    assert mse(f, m).dtype == torch.float64
    torch.testing.assert_close(mse(f, m), (f - m).square().mean())
