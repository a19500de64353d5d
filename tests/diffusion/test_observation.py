"""Looks at a sampling: their figures, and when nothing is won any more."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from regtool.api.diffusion import (
    SCORES,
    SR3,
    FieldScale,
    Plateau,
    Smoothness,
    Steering,
    Step,
    Watch,
    deviation,
)
from regtool.api.losses import local_ncc, ssim_loss
from regtool.api.spatial import gaussian, jacobian_determinant, warp
from regtool.spatial.jacobian import folds

FIELD = FieldScale.of([0.0, 0.0], [2.0, 0.5])


def step(clean: torch.Tensor, number: int, t: int = 100, last: bool = False) -> Step:
    return Step(number, 100, t, t - 1, SR3.level(t), clean, clean, last)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    image = gaussian(torch.rand(1, 1, 32, 32), 1.5)
    image = (image - image.min()) / (image.max() - image.min())
    return image, torch.roll(image, 1, dims=3)


def test_a_look_has_the_figures_of_its_displacement(pair):
    fixed, moving = pair
    steering = Steering({"smoothness": Smoothness(2.0)}, FIELD)
    watch = Watch(fixed, moving, FIELD, steering=steering, keep=True)
    first, second = (8 * gaussian(torch.randn(2, 2, 32, 32), 2.0)).split(1)
    assert watch(step(first, 0)).stop is None
    look = watch(step(second, 1, t=40))
    u, before = FIELD.voxels(second), FIELD.voxels(first)
    found = watch.rows[1]
    assert tuple(found) == (*SCORES, "smoothness")
    assert (found["step"], found["t"]) == (2.0, 40.0)
    assert found["local_ncc"] == look.score == -float(local_ncc(fixed, warp(moving, u)))
    assert found["ssim"] == pytest.approx(1 - float(ssim_loss(fixed, warp(moving, u))))
    change = (u - before).norm(dim=1).mean() / u.norm(dim=1).mean()
    assert found["change"] == pytest.approx(float(change)) and math.isnan(watch.rows[0]["change"])
    statistics = folds(jacobian_determinant(u)[0])
    assert found["sd_jacobian"] == statistics.sd
    assert found["folds_percent"] == statistics.percent > 0
    assert found["smoothness"] == pytest.approx(float(Smoothness(1.0).value(u)))
    assert torch.equal(watch.frames[1], second)


def test_it_looks_every_so_many_steps_and_at_the_last_one(pair):
    watch = Watch(*pair, FIELD, every=3)
    clean = torch.zeros(1, 2, 32, 32)
    looked = [watch(step(clean, n, last=n == 7)) is not None for n in range(8)]
    assert looked == [False, False, True, False, False, True, False, True]
    assert watch.frames == []


def test_a_registered_pair_scores_more_than_one_that_is_not(pair):
    still, home = torch.zeros(2, 1, 2, 32, 32)
    home[:, 1] = 1.0 / FIELD.std[1]  # one voxel
    watch = Watch(*pair, FIELD)
    assert watch(step(home, 0)).score > 0.99 > 0.8 > watch(step(still, 1)).score


def test_whoever_is_told_may_end_it(pair):
    heard = []

    def tell(scores, displacement):
        heard.append((scores["step"], tuple(displacement.shape)))
        return False

    watch = Watch(*pair, FIELD, tell=tell)
    assert watch(step(torch.zeros(1, 2, 32, 32), 4)).stop == "requested"
    assert heard == [(5.0, (1, 2, 32, 32))]


def judged(plateau: Plateau, scores: list[float], changes: list[float], t: int = 900) -> list:
    return [plateau.judge(t, s, c) for s, c in zip(scores, changes, strict=True)]


def test_a_similarity_that_no_longer_rises_is_a_plateau():
    rising = [0.1, 0.2, 0.3, 0.4, 0.4005, 0.39, 0.4008, 0.9]
    found = judged(Plateau(patience=3, gain=1e-3), rising, [1.0] * 8)
    assert found[:6] == [None] * 6 and found[6] == "similarity"


def test_a_slow_but_steady_rise_is_none():
    slow = [0.1 + 0.0005 * k for k in range(30)]
    assert set(judged(Plateau(patience=3, gain=1e-3), slow, [1.0] * 30)) == {None}


def test_a_field_that_no_longer_moves_is_a_plateau():
    rising = [0.1 * k for k in range(6)]
    found = judged(Plateau(patience=2), rising, [math.nan, 0.5, 0.005, 0.2, 0.004, 0.003])
    assert found == [None] * 5 + ["change"]


def test_nothing_is_judged_where_estimates_are_not_to_be_trusted():
    plateau = Plateau(patience=1, below=1500)
    assert set(judged(plateau, [0.1] * 9, [0.0] * 9, t=1500)) == {None}
    assert plateau.judge(1499, 0.1, 1.0) is None
    assert plateau.judge(1400, 0.1, 1.0) == "similarity"


def test_no_plateau_is_seen_while_a_guidance_is_still_to_begin(pair):
    watch = Watch(*pair, FIELD, plateau=Plateau(patience=1))
    still = torch.zeros(1, 2, 32, 32)
    early = [watch(replace(step(still, n), counts=False)).stop for n in range(4)]
    late = [watch(step(still, n)).stop for n in range(4, 8)]
    assert early == [None] * 4 and None not in late


def test_the_deviation_of_samples_is_in_millimetres():
    torch.manual_seed(0)
    u = torch.randn(4000, 2, 3, 3) * torch.tensor([0.5, 2.0]).reshape(1, 2, 1, 1) + 1.0
    mean, apart = deviation(u, (3.0, 1.0))
    assert mean.shape == (1, 2, 3, 3) and torch.allclose(mean, torch.ones_like(mean), atol=0.15)
    assert apart.shape == (1, 1, 3, 3)
    assert torch.allclose(apart, torch.full_like(apart, math.hypot(1.5, 2.0)), rtol=0.05)
