"""The other losses against their equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from regtool.losses.dice import one_hot, soft_dice, soft_dice_maps
from regtool.losses.jacobian_penalty import fold_penalty, volume_penalty
from regtool.losses.kl import velocity_kl
from regtool.losses.mse import mse
from regtool.losses.smoothness import bending_energy, diffusion
from regtool.losses.ssim import ssim_loss, ssim_map
from regtool.spatial.compose import affine_to_displacement
from regtool.spatial.smooth import gaussian_weights


@pytest.fixture
def field():
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 5, 6, 7, generator=g, dtype=torch.float64)


def test_mse_with_and_without_a_mask():
    f, m = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :] = 1
    m[..., 2:, :] = 5
    assert mse(f, m, mask) == 1
    assert mse(f, m) == 13
    assert mse(f, m, torch.zeros_like(mask)) == 0


def test_diffusion_is_the_mean_of_axis_means(field):
    terms = [
        (field[:, :, 1:] - field[:, :, :-1]).square().mean(),
        (field[:, :, :, 1:] - field[:, :, :, :-1]).square().mean(),
        (field[..., 1:] - field[..., :-1]).square().mean(),
    ]
    torch.testing.assert_close(diffusion(field), sum(terms) / 3)


def test_spacing_only_matters_between_axes(field):
    for term in (diffusion, bending_energy):
        torch.testing.assert_close(term(field, (1.0, 1.0, 1.0)), term(field))
    torch.testing.assert_close(diffusion(field, (2.0, 2.0, 2.0)), diffusion(field))
    assert diffusion(field, (9.0, 1.0, 1.0)) != diffusion(field)


def test_bending_ignores_affine_motion_and_knows_a_parabola():
    matrix = torch.eye(4, dtype=torch.float64)[None] + 0.1
    u = affine_to_displacement(matrix, (5, 6, 7))
    assert bending_energy(u) < 1e-20
    assert diffusion(u) > 0
    x = torch.arange(6, dtype=torch.float64)
    u = torch.zeros(1, 2, 5, 6, dtype=torch.float64)
    u[:, 0] = x**2
    torch.testing.assert_close(bending_energy(u), torch.tensor(4.0 / 2, dtype=torch.float64))


def test_one_voxel_axes_give_finite_regularisers():
    u = torch.randn(1, 3, 1, 6, 7, requires_grad=True)
    for term in (diffusion, bending_energy, fold_penalty, volume_penalty):
        value = term(u)
        assert torch.isfinite(value)
        value.backward()
    torch.testing.assert_close(
        diffusion(u), diffusion(u[:, :, 0]), msg="a missing axis must not enter the mean"
    )


def test_kl_of_the_paper():
    mean = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    logvar = torch.full_like(mean, -2.0)
    degree = (16 * 4 - 4 * 4) / 16  # mean number of neighbours of a 4 x 4 grid
    expected = 0.5 * 2 * (10 * degree * torch.tensor(-2.0, dtype=torch.float64).exp() + 2.0)
    torch.testing.assert_close(velocity_kl(mean, logvar), expected)
    ramp = torch.arange(4, dtype=torch.float64).expand(1, 2, 4, 4)
    extra = velocity_kl(ramp, logvar) - velocity_kl(mean, logvar)
    torch.testing.assert_close(extra, torch.tensor(0.5 * 2 * 10 * 0.5 / 2, dtype=torch.float64))


def test_kl_is_least_at_the_conditional_variance():
    mean = torch.zeros(1, 3, 4, 4, 4, dtype=torch.float64)
    logvar = torch.zeros_like(mean, requires_grad=True)
    best = torch.optim.LBFGS([logvar], max_iter=50)

    def closure():
        best.zero_grad()
        loss = velocity_kl(mean, logvar, prior=5.0)
        loss.backward()
        return loss

    best.step(closure)
    # 1 / (prior * number of neighbours): 6 inside the grid.
    assert float(logvar.detach()[0, 0, 1, 1, 1].exp()) == pytest.approx(1 / 30, rel=1e-2)


def test_soft_dice_of_equal_disjoint_and_missing_labels():
    a = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    a[..., :2, :] = 1
    b = torch.zeros_like(a)
    b[..., 2:, :] = 1
    zero = torch.zeros(1, 2, 4, 4)
    assert soft_dice(a, a, zero) == pytest.approx(0, abs=1e-6)
    assert soft_dice(a, b) == pytest.approx(1, abs=1e-5)
    assert soft_dice(a, a, zero, labels=[1, 9]) == pytest.approx(0, abs=1e-6)
    assert soft_dice(a * 0, a * 0, zero) == 0
    assert soft_dice(a, a, zero, labels=[9]) == 0


def test_soft_dice_pulls_labels_together():
    a = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    a[..., 2:6, 2:6] = 3
    b = torch.roll(a, 1, dims=-1)
    u = torch.zeros(1, 2, 8, 8, requires_grad=True)
    soft_dice(a, b, u).backward()
    assert u.grad is not None
    assert -u.grad[:, 1].sum() > 0
    shift = torch.zeros(1, 2, 8, 8)
    shift[:, 1] = 1
    assert soft_dice(a, b, shift) == pytest.approx(0, abs=1e-6)


def test_dice_of_maps_and_one_hot():
    labels = torch.tensor([[[[0, 2], [2, 5]]]])
    maps = one_hot(labels, (2, 5))
    assert maps.shape == (1, 2, 2, 2)
    assert maps.sum((2, 3)).tolist() == [[2.0, 1.0]]
    assert soft_dice_maps(maps, maps) == pytest.approx(0, abs=1e-5)


def direct_ssim(f, m, window, sigma, span):
    """SSIM from the formula, with dense reflected convolutions."""
    line = torch.tensor(gaussian_weights(sigma, window // 2), dtype=f.dtype)
    kernel = torch.outer(line, line)[None, None]

    def mean(x):
        return F.conv2d(F.pad(x, [window // 2] * 4, mode="reflect"), kernel)

    a, b = mean(f), mean(m)
    va, vb, cov = mean(f * f) - a * a, mean(m * m) - b * b, mean(f * m) - a * b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    return (2 * a * b + c1) * (2 * cov + c2) / ((a * a + b * b + c1) * (va + vb + c2))


@pytest.mark.parametrize(("window", "sigma", "span"), [(9, 1.5, 1.0), (15, 2.5, 2.0)])
def test_ssim_of_the_formula(window, sigma, span):
    f, m = torch.rand(2, 1, 20, 22, dtype=torch.float64), torch.rand(2, 1, 20, 22).double()
    expected = direct_ssim(f, m, window, sigma, span)
    torch.testing.assert_close(ssim_map(f, m, window, sigma, span), expected)
    torch.testing.assert_close(ssim_loss(f, m, window, sigma, span), 1 - expected.mean())


def test_ssim_of_equal_flat_and_thin_images():
    x = torch.rand(1, 1, 2, 9, 9, requires_grad=True)
    assert ssim_loss(x.detach(), x.detach()) == pytest.approx(0, abs=1e-6)
    loss = ssim_loss(x, torch.ones_like(x))
    loss.backward()
    assert torch.isfinite(loss)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    with pytest.raises(ValueError, match="odd"):
        ssim_map(x, x, window=8)


def test_determinant_penalties():
    zero = torch.zeros(1, 2, 6, 6)
    assert fold_penalty(zero) == 0
    assert volume_penalty(zero) == 0
    flip = affine_to_displacement(torch.diag(torch.tensor([-1.0, 1.0, 1.0]))[None], (6, 6))
    assert fold_penalty(flip) == 1
    double = affine_to_displacement(torch.diag(torch.tensor([2.0, 1.0, 1.0]))[None], (6, 6))
    half = affine_to_displacement(torch.diag(torch.tensor([0.5, 1.0, 1.0]))[None], (6, 6))
    torch.testing.assert_close(volume_penalty(double), volume_penalty(half))
    assert fold_penalty(half, margin=0.75) == pytest.approx(0.25)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (3.0, 0.7)])
def test_bending_in_millimetres_does_not_depend_on_the_voxels(spacing):
    """u = (a y^2, b x^2) mm bends by 2a and 2b, whatever grid it is sampled on."""
    a, b = 0.03, 0.02
    y, x = (step * torch.arange(8, dtype=torch.float64) for step in spacing)
    millimetres = torch.stack([(a * y**2)[:, None].expand(8, 8), (b * x**2)[None].expand(8, 8)])
    voxels = millimetres / torch.tensor(spacing, dtype=torch.float64)[:, None, None]
    # Each component bends along one of the two axes: half of each mean.
    expected = ((2 * a) ** 2 + (2 * b) ** 2) / 2
    assert bending_energy(voxels[None], spacing) == pytest.approx(expected)
