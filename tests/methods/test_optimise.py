"""Instance optimisation: recovers known motion, has an inverse, never folds, aligns hearts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from optimise_cases import FORMS, context, error, pair_with, wave

import regtool
from regtool.api import Pair, Sample
from regtool.data.phantoms import make
from regtool.data.readers import open_data
from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import Optimisation
from regtool.imaging.volume import Volume
from regtool.spatial.compose import compose
from regtool.spatial.repair import scan_displacement
from regtool.spatial.smooth import gaussian


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("similarity", ["ncc", "mse"])
@pytest.mark.parametrize("shape", [(48, 56), (12, 32, 36)])
def test_recovers_a_smooth_displacement(form, similarity, shape):
    true = wave(shape)
    changes = dict(FORMS[form])
    if similarity == "mse" and "smoothness" in changes:
        changes["smoothness"] = 0.0005
    settings = Optimisation(similarity=similarity, window=7, iterations=(90, 90), **changes)
    found = optimise(pair_with(true), settings, context()).displacement
    assert error(found, true) < 0.5


@pytest.mark.parametrize("similarity", ["mi", "mind"])
def test_sees_through_inverted_contrast(similarity):
    true = wave((64, 64))
    pair = pair_with(true)
    pair.moving.image = 1 - pair.moving.image
    settings = Optimisation(similarity=similarity, iterations=(60, 60))
    found = optimise(pair, settings, context()).displacement
    assert error(found, true) < 0.6
    blind = optimise(pair, Optimisation("compositive", "mse", iterations=(60, 60)), context())
    assert error(blind.displacement, true) > 1


@pytest.mark.parametrize("form", FORMS)
def test_equal_images_stay_where_they_are(form):
    pair = pair_with(torch.zeros(1, 2, 40, 40))
    settings = Optimisation(iterations=(20, 20), **FORMS[form])
    assert optimise(pair, settings, context()).displacement.abs().max() < 1e-3


@pytest.mark.parametrize("form", ["symmetric", "velocity"])
def test_the_inverse_is_one_and_exchanging_the_images_gives_it(form):
    pair = pair_with(wave((56, 48)))
    settings = Optimisation(window=7, iterations=(40, 40), **FORMS[form])
    found = optimise(pair, settings, context())
    assert found.inverse is not None
    there_and_back = compose(found.displacement, found.inverse)[..., 4:-4, 4:-4]
    assert found.displacement.abs().max() > 1
    assert there_and_back.abs().max() < 0.1
    if form == "symmetric":
        other = optimise(pair.swapped(), settings, context())
        assert (other.displacement - found.inverse).abs().max() < 0.02


def test_slices_do_not_know_of_each_other():
    """A batch of slices gets the fields that each would get alone."""
    pairs = [pair_with(wave((40, 48), size, seed)) for size, seed in ((2.0, 1), (0.5, 2))]
    batch = Pair(*(
        Sample(torch.cat([getattr(p, side).image for p in pairs]), (1.0, 1.0))
        for side in ("fixed", "moving")
    ))  # fmt: skip
    settings = Optimisation(window=7, iterations=(15, 15), tolerance=0.0)
    together = optimise(batch, settings, context()).displacement
    for b, pair in enumerate(pairs):
        alone = optimise(pair, settings, context()).displacement
        assert (together[b : b + 1] - alone).abs().max() < 1e-3


def test_an_exhaustive_search_finds_what_gradients_miss():
    true = torch.zeros(1, 2, 96, 96)
    true[:, 1] = 11.0
    far = []
    for convex in (False, True):
        settings = Optimisation(iterations=(30, 30, 30), convex=convex, update_sigma=2.0)
        found = optimise(pair_with(true), settings, context()).displacement
        far.append(error(found[..., 12:-12], true[..., 12:-12]))
    assert far[1] < 0.25 < far[0]


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


@pytest.mark.parametrize("shape", [(72, 80), (40, 48, 44)])
@pytest.mark.parametrize("form", FORMS)
def test_air_around_the_content_is_left_out(form, shape):
    """The box of the content is computed as if it were all; the field goes on as at its border."""
    low, high = (20, 22, 15)[: len(shape)], (44, 50, 33)[: len(shape)]
    place = torch.zeros(1, 1, *shape)
    place[(..., *(slice(a, b) for a, b in zip(low, high, strict=True)))] = 1
    pair = pair_with(0.5 * wave(shape))
    for side, sign in ((pair.fixed, 0.0), (pair.moving, 1.5)):
        side.image = side.image * place
        side.points = torch.tensor([[[a + 4.0 + sign for a in low]]])
        side.mask = gaussian(place, 3.0)
    box = tuple(slice(max(0, a - 8), b + 8) for a, b in zip(low, high, strict=True))
    inside = Pair(*(Sample(s.image[(..., *box)], s.spacing, s.mask[(..., *box)],
                           points=s.points - torch.tensor([b.start for b in box]))
                    for s in (pair.fixed, pair.moving)))  # fmt: skip
    more = {} if form == "symmetric" else {"landmarks": 0.5}
    settings = Optimisation(iterations=(10, 5), **FORMS[form], **more)
    seen: list[torch.Size] = []

    def look(level, found):
        seen.append(found.displacement.shape[2:])
        return True

    whole = optimise(pair, settings, context(preview=look))
    part = optimise(inside, settings, context())
    assert seen == [torch.Size(shape)] * 2
    assert torch.equal(whole.displacement[(..., *box)], part.displacement)
    assert (whole.inverse is None) == (part.inverse is None)
    outermost = whole.displacement.movedim(2, 0)
    assert torch.equal(outermost[0], outermost[box[0].start])
    assert part.displacement.abs().max() > 0.02


@pytest.mark.parametrize("seed", range(3))
def test_the_compositive_answer_never_folds(seed):
    pair = pair_with(wave((24, 30, 28), 6.0, seed))
    settings = Optimisation(iterations=(40, 40), update_sigma=0.8, total_sigma=0.0)
    found = optimise(pair, settings, context()).displacement
    assert scan_displacement(found).count == 0
    assert found.abs().max() > 1
