"""Instance optimisation: recovers known motion, respects masks, starts and stops where told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import regtool
from regtool.api import Context, Pair, Sample
from regtool.data.phantoms import make
from regtool.data.readers import open_data
from regtool.engine.refine import Optimisation, _shapes, optimise
from regtool.imaging.volume import Volume
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import warp


def context(**hooks) -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), **hooks)


def textured(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    image = gaussian(noise, 2.0)
    return (image - image.min()) / (image.max() - image.min())


def pair_with(displacement: torch.Tensor, mask: torch.Tensor | None = None) -> Pair:
    shape = tuple(displacement.shape[2:])
    moving = textured(shape)
    fixed = warp(moving, displacement)
    spacing = (1.0,) * len(shape)
    return Pair(Sample(fixed, spacing, mask=mask), Sample(moving, spacing))


@pytest.mark.parametrize("similarity", ["ncc", "mse"])
@pytest.mark.parametrize("shape", [(48, 56), (12, 32, 36)])
def test_recovers_a_smooth_displacement(similarity, shape):
    noise = torch.randn(1, len(shape), *shape, generator=torch.Generator().manual_seed(3))
    true = gaussian(noise, [min(6.0, n / 4) for n in shape])
    true = true * (2.0 / true.abs().max())
    if len(shape) == 3:
        true[:, 0] *= 0.3
    weight = {"ncc": 0.05, "mse": 0.0005}[similarity]
    settings = Optimisation(similarity, 7, weight, (60, 60), 0.1)
    found = optimise(pair_with(true), settings, context())
    inner = (slice(None), slice(None), *(slice(3, -3) for _ in shape))
    before, after = true[inner].norm(), (found - true)[inner].norm()
    assert after < 0.5 * before


def test_equal_images_stay_where_they_are():
    pair = pair_with(torch.zeros(1, 2, 40, 40))
    found = optimise(pair, Optimisation(iterations=(20, 20)), context())
    assert found.abs().max() < 1e-3


def test_the_mask_decides_what_counts():
    true = torch.zeros(1, 2, 48, 48)
    true[:, 1] = 2.0
    nowhere = torch.zeros(1, 1, 48, 48)
    nowhere[..., :4, :4] = 1
    settings = Optimisation("mse", smoothness=0.001, iterations=(40, 40))
    masked = optimise(pair_with(true, nowhere), settings, context())
    whole = optimise(pair_with(true), settings, context())
    far = (slice(None), slice(1, 2), slice(30, 44), slice(10, 40))
    assert masked[far].abs().mean() < 0.3 * whole[far].abs().mean()


def test_a_start_is_kept_when_nothing_is_left_to_gain():
    true = torch.zeros(1, 2, 40, 40)
    true[:, 0] = 3.0
    settings = Optimisation("mse", smoothness=0.0, iterations=(10,), rate=0.02)
    found = optimise(pair_with(true), settings, context(), start=true)
    assert (found - true).abs().mean() < 0.1


def test_previews_may_stop_it_and_progress_is_told():
    seen, told = [], []

    def preview(level, prediction):
        seen.append(tuple(prediction.displacement.shape))
        return False

    optimise(
        pair_with(torch.zeros(1, 2, 64, 64)), Optimisation(iterations=(3, 3, 3)),
        context(preview=preview, report=lambda done, total: told.append((done, total))),
    )  # fmt: skip
    assert seen == [(1, 2, 64, 64)]
    assert told == [(1, 9), (2, 9), (3, 9)]


def test_thin_stacks_keep_their_slices():
    assert _shapes((10, 256, 200), (10.0, 1.5, 1.5), 3) == [
        (10, 64, 50), (10, 128, 100), (10, 256, 200),
    ]  # fmt: skip


def test_dice_of_a_beating_heart_rises():
    phantom = make("heart2d", seed=1)
    images = [
        Volume(array, phantom.grid)
        for array in (phantom.fixed, phantom.moving, phantom.fixed_labels, phantom.moving_labels)
    ]
    record = regtool.register(
        images[0], images[1], "optimise", fixed_labels=images[2], moving_labels=images[3]
    ).record
    before, after = (record["dice"][when]["mean"] for when in ("before", "after"))
    assert after > before + 0.2
    assert record["jacobian"]["percent"] < 1
    assert record["similarity"]["ncc"]["after"] > record["similarity"]["ncc"]["before"]


def test_dice_of_real_hearts_rises(shared_data):
    pairs = [p for p in open_data(f"acdc:{shared_data / 'acdc'}") if p.split == "val"]
    gains = []
    for pair in pairs[1:3]:
        record = regtool.register(
            pair.fixed.image, pair.moving.image, "optimise", slices="z",
            settings={"similarity": "mse", "iterations": (40, 30)},
            fixed_labels=pair.fixed.labels, moving_labels=pair.moving.labels,
        ).record  # fmt: skip
        gains.append(record["dice"]["after"]["mean"] - record["dice"]["before"]["mean"])
    assert np.mean(gains) > 0.1
