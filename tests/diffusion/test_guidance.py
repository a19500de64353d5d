"""Steering a generated heart: each guidance does what it says, more with a larger scale.

The denoiser is exact for smooth fields about an imperfect registration, so whatever the steered
samples do better is the guidance's doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from exact import Smooth

from regtool.api.diffusion import (
    SR3,
    Direction,
    FieldScale,
    NoiseSource,
    Organ,
    OrganImages,
    Sampling,
    Smoothness,
    Steering,
    Step,
    sample,
)
from regtool.api.spatial import gaussian, jacobian_determinant, resize_image, warp_labels
from regtool.data.phantoms import make
from regtool.spatial.jacobian import folds


@dataclass
class Case:
    """A pair, its labels, an imperfect registration, and the denoiser about it."""

    fixed: torch.Tensor
    moving: torch.Tensor
    fixed_labels: torch.Tensor
    moving_labels: torch.Tensor
    field: FieldScale
    denoiser: Smooth

    def steered(self, settings: Sampling = Sampling(steps=8), **energies) -> torch.Tensor:
        """The displacement (1, 2, *S) sampled with energies."""
        more = energies.pop("more", {})
        steering = Steering(energies, self.field, **more)
        with torch.no_grad():
            done = sample(self.denoiser, SR3, tuple(self.denoiser.mean.shape), settings,
                          NoiseSource(3), guidance=steering if energies else None)  # fmt: skip
        return self.field.voxels(done.clean)

    def dice(self, u: torch.Tensor) -> list[float]:
        """Dice of the three structures."""
        warped = warp_labels(self.moving_labels, u)
        found = []
        for label in (1, 2, 3):
            a, b = warped == label, self.fixed_labels == label
            found.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
        return found


@pytest.fixture(scope="module")
def case() -> Case:
    made = make("heart2d", 0, 112)
    images = [torch.from_numpy(i)[None, None].float() for i in (made.fixed, made.moving)]
    images = [(i - i.min()) / (i.max() - i.min()) for i in images]
    labels = [torch.from_numpy(m)[None, None].long() for m in (made.fixed_labels,
                                                                made.moving_labels)]  # fmt: skip
    truth = torch.from_numpy(made.displacement)[None]
    torch.manual_seed(1)
    rough = gaussian(torch.randn_like(truth), 4.0)
    imperfect = 0.5 * truth + 0.5 * rough / rough.std()
    field = FieldScale.of(truth.mean((0, 2, 3)), truth.std((0, 2, 3)))
    return Case(*images, *labels, field, Smooth(field.normalised(imperfect), 0.4))


def roughness(u: torch.Tensor) -> float:
    return folds(jacobian_determinant(u)[0]).sd


@pytest.mark.parametrize(
    "settings", [Sampling(steps=5), Sampling(steps=25), Sampling("ancestral", steps=25)],
    ids=["5", "25", "ancestral"],
)  # fmt: skip
def test_smoothness_lowers_the_sd_of_the_jacobian_with_its_scale(case, settings):
    scales = (0.0, 0.1, 1.0, 10.0, 100.0)
    found = [roughness(case.steered(settings, smooth=Smoothness(s))) for s in scales]
    assert all(more < less for less, more in pairwise(found)), found
    assert found[-1] < 0.5 * found[0]


@pytest.mark.parametrize("settings", [Sampling(steps=8), Sampling("ancestral", steps=25)])
@pytest.mark.parametrize("vector", [(1.0, 0.5), (0.0, -1.0)])
def test_direction_raises_the_cosine_inside_its_mask(case, settings, vector):
    mask = (case.fixed_labels == 2).float()
    found, outside = [], []
    for scale in (0.0, 0.3, 1.0, 3.0, 10.0):
        wish = Direction(scale, vector, mask)
        u = case.steered(settings, direction=wish)
        found.append(float(wish.mean_cosine(u)))
        far = Direction(1.0, vector, (gaussian(mask, 8.0) < 1e-3).float())
        outside.append(float(far.mean_cosine(u)))
    assert all(more > less for less, more in pairwise(found)), found
    assert found[-1] > found[0] + 0.5
    assert abs(outside[-1] - outside[0]) < 0.15


@pytest.mark.parametrize("label", [1, 2, 3])
def test_an_organ_gains_overlap_and_the_others_keep_theirs(case, label):
    labels = case.fixed_labels, case.moving_labels
    organs = [Organ.of_labels(scale, *labels, label) for scale in (0.0, 3.0, 10.0, 30.0)]
    rows = [case.dice(case.steered(organ=organ)) for organ in organs]
    own = [row.pop(label - 1) for row in rows]
    assert all(more > less for less, more in pairwise(own)), own
    assert own[-1] > own[0] + 0.1
    assert all(sum(row) / 2 > sum(rows[0]) / 2 - 0.01 for row in rows), rows


def test_images_in_the_organs_mask_serve_where_the_moving_labels_are_missing(case):
    mask = (gaussian((case.fixed_labels == 3).float(), 1.5) > 0.05).float()
    found = [
        case.dice(case.steered(organ=OrganImages(s, case.fixed, case.moving, mask, window=7)))[2]
        for s in (0.0, 3.0, 10.0)
    ]
    assert found[0] < found[1] < found[2]


def test_the_derivative_may_go_through_the_network(case):
    organ = Organ.of_labels(10.0, case.fixed_labels, case.moving_labels, 3)
    plain = case.dice(case.steered())[2]
    cheap = case.dice(case.steered(organ=organ))[2]
    through = case.dice(case.steered(organ=organ, more={"through_network": True}))[2]
    assert cheap > plain + 0.03 and through > plain + 0.03


def test_several_energies_act_together(case):
    wish = Direction(3.0, (1.0, 0.0), (case.fixed_labels == 2).float())
    alone = case.steered(direction=wish)
    both = case.steered(direction=wish, smooth=Smoothness(5.0))
    assert roughness(both) < 0.85 * roughness(alone)
    plain = float(wish.mean_cosine(case.steered()))
    assert float(wish.mean_cosine(both)) > plain + 0.2


def step(case: Case, t: int) -> Step:
    clean = case.denoiser.mean
    return Step(0, 1, t, t - 1, SR3.level(t), clean, clean)


def test_a_pull_is_cut_and_weighted_by_what_is_still_uncertain(case):
    wish = Direction(1e6, (1.0, 0.0))
    steering = Steering({"direction": wish}, case.field, clip=0.5, width=0.0)
    for t in (0, 300, 1400):
        moved = (steering(step(case, t)) - case.denoiser.mean).norm(dim=1)
        most = 0.5 * (1 - SR3.level(t))
        assert float(moved.max()) == pytest.approx(most, rel=1e-3, abs=1e-6)
    assert steering.active(1499) and not steering.active(1500)
    assert not Steering({"direction": Direction(0.0, (1.0, 0.0))}, case.field).active(0)


def test_a_small_quadratic_pull_is_the_textbook_shift_of_the_noise(case):
    """``eps + scale sqrt(1 - abar) dE/dstate`` with ``dz/dstate = sqrt(abar)``."""
    t, scale = 400, 3e-3
    level, z = SR3.level(t), case.denoiser.mean.clone().requires_grad_()
    energy = Smoothness(scale)
    (slope,) = torch.autograd.grad(energy.value(case.field.voxels(z)).sum(), z)
    guided = Steering({"smooth": energy}, case.field)(step(case, t))
    shift = -(level**0.5) * (guided - z.detach()) / (1 - level) ** 0.5
    wanted = scale * (1 - level) ** 0.5 * level**0.5 * slope
    assert float((shift - wanted).norm() / wanted.norm()) < 0.02


class Coarse(FieldScale):
    """Fields on a grid of every second voxel along x."""

    pitch = (1.0, 2.0)  # type: ignore[assignment]

    def voxels(self, z: torch.Tensor) -> torch.Tensor:
        return resize_image(super().voxels(z), (z.shape[2], 2 * z.shape[3] - 1))


def test_smoothness_is_that_of_the_displacement_where_fields_are_coarser():
    torch.manual_seed(0)
    z = gaussian(torch.randn(1, 2, 48, 48), 4.0).requires_grad_()
    field, energy, t = Coarse.of([0.0, 0.0], [1.0, 2.0]), Smoothness(1e-2), 400
    (slope,) = torch.autograd.grad(energy.scale * energy.value(field.voxels(z)).sum(), z)
    z = z.detach()
    moved = Steering({"smooth": energy}, field)(Step(0, 1, t, 0, SR3.level(t), z, z))
    wanted = -(1 - SR3.level(t)) * slope
    inside = (..., slice(4, -4), slice(4, -4))
    assert float((moved - z - wanted)[inside].norm() / wanted[inside].norm()) < 0.1


def test_values_are_energies_without_their_scale(case):
    smooth, wish = Smoothness(7.0), Direction(3.0, (1.0, 0.0))
    found = Steering({"smooth": smooth, "direction": wish}, case.field).values(case.denoiser.mean)
    u = case.field.voxels(case.denoiser.mean)
    assert torch.equal(found["smooth"], smooth.value(u))
    assert torch.equal(found["direction"], wish.value(u))
