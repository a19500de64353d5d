"""Energies: their values by hand, their derivatives, and what they are blind to."""

from __future__ import annotations

import math

import pytest
import torch

from regtool.api.diffusion import Direction, FieldScale, Organ, OrganImages, Smoothness
from regtool.api.losses import diffusion
from regtool.diffusion.energies import surface_distance
from regtool.spatial.relax import relaxed
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import warp_labels


def field(*shape: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(2, len(shape), *shape)


def test_a_field_scale_goes_there_and_back():
    scale = FieldScale.of([0.5, -1.0], torch.tensor([2.0, 0.5]))
    u = field(5, 6)
    assert torch.allclose(scale.voxels(scale.normalised(u)), u, atol=1e-6)
    assert torch.allclose(scale.voxels(torch.ones_like(u))[0, :, 0, 0], torch.tensor([2.5, -0.5]))
    with pytest.raises(ValueError, match="positive std"):
        FieldScale.of([0.0], [0.0])


@pytest.mark.parametrize("spacing", [None, (3.0, 1.0, 2.0)])
def test_smoothness_is_the_loss_summed(spacing):
    """Per axis the loss takes the mean over pairs of neighbours, this takes the sum."""
    u = field(6, 7, 8)[:1]
    value = float(Smoothness(1.0, spacing).value(u))
    total = 0.0
    for axis in range(2, 5):
        step = torch.diff(u, dim=axis)
        if spacing is not None:
            column = torch.tensor(spacing).reshape(1, -1, 1, 1, 1)
            step = step * column / spacing[axis - 2]
        total += float(step.square().sum()) / 2
    assert value == pytest.approx(total, rel=1e-5)
    assert float(Smoothness(1.0, spacing).value(u.new_full(u.shape, 3.0))) == 0
    if spacing is None:  # one axis: the loss itself
        line = field(9, 1)[:1, :, :, :1]
        assert float(Smoothness(1.0).value(line)) == pytest.approx(
            float(diffusion(line)) * 2 * 8 / 2, rel=1e-5
        )


@pytest.mark.parametrize("shape", [(7, 9), (4, 5, 6)])
def test_relaxing_minimises_distance_and_smoothness_together(shape):
    u = field(*shape).double()
    weights = [[0.5 * i + 2.0 * j for j in range(len(shape))] for i in range(len(shape))]
    v = relaxed(u, weights).double().requires_grad_()
    cost = (v - u).square().sum()
    for i, row in enumerate(weights):
        for j, weight in enumerate(row):
            cost = cost + weight * torch.diff(v[:, i], dim=j + 1).square().sum()
    (slope,) = torch.autograd.grad(cost, v)
    assert float(slope.abs().max()) < 2e-5
    axes = tuple(range(2, u.dim()))
    assert torch.allclose(v.mean(axes), u.mean(axes), atol=1e-6)
    with pytest.raises(ValueError, match="one row a channel"):
        relaxed(u, weights[:1])


def test_a_direction_counts_angles_inside_its_mask_only():
    u = torch.zeros(1, 2, 4, 4)
    u[:, 0, :, :2] = 2.0  # along the vector
    u[:, 1, :, 2:] = 0.5  # across it
    left = torch.zeros(1, 1, 4, 4)
    left[..., :2] = 1
    assert float(Direction(1.0, (3.0, 0.0)).mean_cosine(u)) == pytest.approx(0.5)
    assert float(Direction(1.0, (3.0, 0.0), left).mean_cosine(u)) == pytest.approx(1.0)
    assert float(Direction(1.0, (-1.0, 0.0), left).value(u)) == pytest.approx(
        8 * (1 + 2 / math.hypot(2, 0.5))
    )
    with pytest.raises(ValueError, match="no length"):
        Direction(1.0, (0.0, 0.0))


def test_directions_are_measured_in_millimetres():
    u = torch.ones(1, 2, 3, 3)  # in voxels the diagonal
    found = Direction(1.0, (1.0, 0.0), spacing=(3.0, 4.0)).mean_cosine(u)
    assert float(found) == pytest.approx(3 / 5)


def test_a_displacement_near_zero_has_a_finite_derivative():
    u = torch.zeros(1, 2, 3, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(Direction(1.0, (0.0, 2.0), soft=0.5).value(u).sum(), u)
    assert torch.allclose(slope[:, 1], torch.full((1, 3, 3), -2.0))
    assert not slope[:, 0].any()


def disc(shift: float, n: int = 32, radius: float = 8.0) -> torch.Tensor:
    line = torch.arange(n) - n / 2
    return ((line[:, None] ** 2 + (line - shift) ** 2) < radius**2).long()[None, None]


def test_surface_distances_are_signed_and_meet_half_way():
    mask = torch.zeros(1, 2, 1, 12)
    mask[:, 0, :, 4:7] = 1
    found = surface_distance(mask, most=4.0)
    assert found[0, 0, 0].tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 0.5, -0.5, -1.5, -2.5,
                                       -3.5, -4.0]  # fmt: skip
    assert (found[0, 1] == -4).all() and (surface_distance(1 + 0 * mask) == 4).all()


def test_an_organs_dice_is_that_of_its_warped_labels():
    fixed, moving = disc(0), disc(5)
    organ = Organ.of_labels(1.0, fixed, moving, 1)
    for shift in (0.0, 2.0, 5.0):
        u = torch.zeros(1, 2, 32, 32)
        u[:, 1] = shift
        warped = warp_labels(moving, u)
        hard = 2 * float((fixed * warped).sum()) / float((fixed + warped).sum())
        assert float(organ.dice(u)) == pytest.approx(hard, abs=0.04)
        volume = float(fixed.sum() + moving.sum()) / 2
        assert float(organ.value(u)) == pytest.approx(volume * (1 - float(organ.dice(u))))
    with pytest.raises(ValueError, match="label 7 is not in the fixed labels"):
        Organ.of_labels(1.0, fixed, moving, 7)
    with pytest.raises(ValueError, match="label 1 is not in the moving labels"):
        Organ.of_labels(1.0, fixed, 0 * moving, 1)


def test_an_organ_pulls_its_edges_home():
    organ = Organ.of_labels(1.0, disc(0), disc(3), 1)
    u = torch.zeros(1, 2, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(organ.value(u).sum(), u)
    assert float(slope[:, 1].sum()) < -1  # less energy with larger displacement along x
    assert abs(float(slope[:, 0].sum())) < 0.1 * abs(float(slope[:, 1].sum()))
    assert not slope[..., :3, :3].any()


def test_images_inside_a_mask_decide_where_labels_are_missing():
    torch.manual_seed(0)
    image = gaussian(torch.rand(1, 1, 32, 32), 1.5)
    image = (image - image.min()) / (image.max() - image.min())
    moved = torch.roll(image, 2, dims=3)
    mask = disc(0).float()
    energy = OrganImages(1.0, image, moved, mask)
    still, home = torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 32, 32)
    home[:, 1] = 2.0
    assert float(energy.value(home)) < 0.01 * float(mask.sum()) < float(energy.value(still))
    away = home.clone()
    away[..., :3, :] = 9.0  # far outside of the mask
    assert float(energy.value(away)) == pytest.approx(float(energy.value(home)), abs=1e-4)
