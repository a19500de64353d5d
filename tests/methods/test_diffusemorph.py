"""DiffuseMorph in use: the way along eta, further passes, synthetic images."""

from __future__ import annotations

import pytest
import torch
from diffusemorph_cases import blobs, context, small

from regtool.api import Context, Pair
from regtool.spatial.compose import compose
from regtool.spatial.warp import warp
from regtool_diffusemorph.model import SCHEDULE, DiffuseMorph
from regtool_diffusemorph.options import DiffuseMorphOptions


def test_eta_scales_the_noise_that_the_deformation_network_sees():
    model, pair = small(2), blobs()
    moving, fixed = pair.moving.image, pair.fixed.image
    with torch.no_grad():
        (look,), u = model.looks(moving, fixed, 1)
        half = model(pair, DiffuseMorphOptions(eta=0.5), context()).displacement
        wanted = model.field(torch.cat([2 * moving - 1, 0.5 * look.noise], 1))
        whole = model(pair, DiffuseMorphOptions(), context()).displacement
    assert torch.allclose(half, wanted, atol=1e-6)
    assert torch.equal(whole, u)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_trajectory_ends_where_the_registration_does(passes):
    model, pair = small(2), blobs()
    options = DiffuseMorphOptions(trajectory=5, passes=passes)
    with torch.no_grad():
        answer = model(pair, options, context())
        third = model(pair, DiffuseMorphOptions(eta=0.5, passes=passes), context()).displacement
    frames = answer.extras["Trajectory"]
    assert frames.kind == "trajectory" and frames.tensor.shape == (1, 5, 2, 64, 64)
    assert torch.allclose(frames.tensor[:, -1], answer.displacement, atol=1e-5)
    assert torch.allclose(frames.tensor[:, 2], third, atol=1e-5)


def test_a_further_pass_sees_the_warped_image_and_is_composed():
    model, pair = small(2), blobs()
    moving, fixed = pair.moving.image, pair.fixed.image
    with torch.no_grad():
        _, once = model.looks(moving, fixed, 1)
        twice = model(pair, DiffuseMorphOptions(passes=2), context()).displacement
        _, second = model.looks(warp(moving, once, padding="zeros"), fixed, 1)
    assert torch.allclose(twice, compose(once, second), atol=1e-6)


@pytest.mark.parametrize(("frames", "etas"), [(1, (1.0,)), (2, (0.0, 1.0)), (3, (0.0, 0.5, 1.0))])
def test_frames_are_evenly_spaced_with_both_ends(frames, etas):
    assert DiffuseMorphOptions(trajectory=frames).etas == etas


def synthetic(pair: Pair, seed: int, model: DiffuseMorph, **options: int) -> torch.Tensor:
    drawn = Context(torch.Generator().manual_seed(seed), torch.device("cpu"))
    chosen = DiffuseMorphOptions(synthesize=True, **options)
    with torch.no_grad():
        return model(pair, chosen, drawn).extras["Synthetic"].tensor


@pytest.mark.parametrize("shape", [(32, 30), (16, 16, 20)])
def test_a_seed_gives_one_synthetic_image(shape):
    model, pair = small(len(shape)), blobs(shape)
    one, again, other = (synthetic(pair, s, model, start=20, steps=5) for s in (1, 1, 2))
    assert one.shape == pair.fixed.image.shape
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3)
    assert one.min() >= 0 and one.max() <= 1


def test_a_network_that_sees_the_fixed_image_leads_to_it():
    """The noise towards a known image, exactly: the end of the reverse process is that image."""
    model, pair = small(2), blobs()

    def exact(moving, fixed, state, t):
        level = SCHEDULE.level(int(t))
        return (state - level**0.5 * fixed) / (1 - level) ** 0.5

    model.noise = exact
    for options in ({}, {"steps": 200}, {"start": 1, "steps": 1}):
        found = synthetic(pair, 0, model, **options)
        assert torch.allclose(found, pair.fixed.image, atol=1e-4)


def test_progress_counts_the_reverse_steps():
    model, pair = small(2), blobs((32, 32))
    seen: list[tuple[int, int]] = []
    drawn = Context(torch.Generator(), torch.device("cpu"), report=lambda *s: seen.append(s))
    with torch.no_grad():
        model(pair, DiffuseMorphOptions(synthesize=True, steps=7), drawn)
    assert seen == [(k, 7) for k in range(1, 8)]
