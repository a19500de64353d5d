"""Settings of instance optimisation: by level, by dimension, and those that make no sense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from optimise_cases import context, error, pair_with, textured, wave

import regtool
from regtool.api import Context, Pair, Sample
from regtool.api.refine import LENGTHS, taught
from regtool.engine.optimisation.pyramid import shapes
from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import Optimisation
from regtool.errors import UsageError
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid
from regtool.spatial.smooth import gaussian


def test_a_level_ends_when_nothing_is_gained():
    told = []
    settings = Optimisation(iterations=(400, 400), tolerance=0.05, window=7)
    watch = context(report=lambda done, total: told.append(done))
    optimise(pair_with(wave((48, 48))), settings, watch)
    assert len(told) < 400
    assert told[-1] == 800  # the progress bar ends nevertheless


@pytest.mark.parametrize("wrong", [
    {"symmetric": True, "formulation": "velocity"}, {"symmetric": True, "labels": 1.0},
    {"iterations": ()},
])  # fmt: skip
def test_settings_that_exclude_each_other(wrong):
    with pytest.raises(ValueError):
        Optimisation(**wrong)


def test_thin_stacks_keep_their_slices():
    assert shapes((10, 256, 200), (10.0, 1.5, 1.5), 3) == [
        (10, 64, 50), (10, 128, 100), (10, 256, 200),
    ]  # fmt: skip


def test_lengths_may_differ_from_level_to_level():
    given = Optimisation(iterations=(5, 5, 5), window=(9, 5), update_sigma=(4.0, 3.0, 2.0, 1.0))
    found = [given.at_level(number) for number in range(3)]
    assert [level.window for level in found] == [9, 9, 5]
    assert [level.update_sigma for level in found] == [3.0, 2.0, 1.0]
    assert [level.total_sigma for level in found] == [0.5] * 3


def test_balance_brings_regions_of_weak_contrast_along():
    """Half of the image has a third of the contrast; both halves have moved."""
    true = wave((64, 64))
    pair = pair_with(true)
    weaker = torch.where(torch.arange(64) < 32, 0.3, 1.0)
    for side in (pair.fixed, pair.moving):
        side.image = side.image * weaker

    def left(balance: float) -> float:
        settings = Optimisation(
            similarity="mse", iterations=(30,), balance=balance, update_sigma=2.0, total_sigma=0.0
        )
        found = optimise(pair, settings, context()).displacement
        return error(found[..., :28], true[..., :28])

    assert left(0.9) < 0.75 * left(0.0)


@pytest.mark.parametrize("wrong", ["window=4", "balance=1", "update_sigma=-1", "iterations=0.5"])
def test_options_that_make_no_sense_are_refused(wrong, tmp_path):
    grid_image = Volume(np.random.default_rng(0).random((20, 20), np.float32), Grid(
        (20, 20), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0)))  # fmt: skip
    with pytest.raises(UsageError):
        regtool.register(grid_image, grid_image, "optimise", settings=[wrong])


@pytest.mark.parametrize("shape", [(24, 24), (8, 16, 16)])
def test_a_teacher_has_the_lengths_of_its_images_dimension(shape):
    smooth = gaussian(torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(0)), 2.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    pair = Pair(*(Sample(image, (1.0,) * len(shape)) for image in smooth.split(1, 1)))
    context = Context(torch.Generator(), torch.device("cpu"))
    settings = Optimisation(iterations=(60, 60, 15), tolerance=0.03, **LENGTHS[len(shape)])
    assert torch.equal(taught(pair, context), optimise(pair, settings, context).displacement)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_record_tells_the_values_that_ran_on_every_level(ndim):
    size = (64, 64, 12)[:ndim]
    image = Volume(textured(size[::-1])[0, 0].numpy(), Grid(
        size, (1.0, 1.0, 2.0)[:ndim], tuple(np.eye(ndim).ravel()), (0.0,) * ndim))  # fmt: skip
    settings = ["preset=accurate", "iterations=3,2,1"]
    told = regtool.register(image, image, "optimise", settings=settings).record["settings"]
    assert told["iterations"] == [3, 2, 1]
    assert told["window"] == [LENGTHS[ndim]["window"]] * 3
    if ndim == 2:
        assert told["shrink"] == [[4, 4], [2, 2], [1, 1]]
        assert told["update_sigma"] == [3.0] * 3
    else:  # the widely spaced axis is halved later
        assert told["shrink"] == [[4, 4, 1], [2, 2, 1], [1, 1, 1]]
        assert told["update_sigma"] == [3.0, 2.0, 1.5]
        assert told["total_sigma"] == [0.5, 0.4, 0.35]
    assert (told["tolerance"], told["rate"], told["symmetric"]) == (0.003, 0.5, False)
    assert (told["smoothness"], told["balance"]) == (0.0, 0.9)
    assert None not in told.values()


def test_the_values_of_adam_and_of_a_refinement_are_told_too():
    image = Volume(textured((48, 48))[0, 0].numpy(), Grid(
        (48, 48), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0)))  # fmt: skip
    settings = ["formulation=velocity", "similarity=mi", "iterations=2,1"]
    record = regtool.register(image, image, "optimise", settings=settings, refine=1).record
    told = record["settings"]
    assert (told["rate"], told["smoothness"], told["bins"]) == (0.1, 0.5, 32)
    assert (told["shrink"], told["iterations"]) == ([[2, 2], [1, 1]], [2, 1])
    assert "update_sigma" not in told
    refined = record["refine"]["settings"]
    assert refined["similarity"] == "ncc"
    assert refined["window"] == [7, 7, 7]
