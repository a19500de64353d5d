"""Recipes of one network: a single stage, or its 2-D form on slices first."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from regtool.api import Context, Pair, Sample, Schedule, StepOutput
from regtool.api.train import registration_stages

SETTINGS = {"steps": 30, "batch": 2, "lr": 1e-3, "weight": 2.0}
FIRST = {"steps": 10, "lr": 5e-3, "weight": 3.0}


def build(config):
    layer = nn.Conv3d if config["ndim"] == 3 else nn.Conv2d
    return nn.Sequential(layer(1, config["width"], 3, padding=1))


def loss(settings):
    def step(module, pair, context):
        assert pair.fixed.image.dim() == module[0].weight.dim()
        value = settings["weight"] * (module(pair.fixed.image) - pair.moving.image).square().mean()
        return StepOutput({"loss": value}, object())

    return step


def pair() -> Pair:
    images = torch.rand(2, 2, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    return Pair(*(Sample(image, (5.0, 2.0, 2.0)) for image in images))


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)


def test_without_slices_first_there_is_one_stage():
    (stage,) = registration_stages(SETTINGS, build, loss)
    (optimiser,) = stage.optimisers
    assert (stage.name, stage.steps, stage.batch, stage.ema) == ("registration", 30, 2, None)
    assert (optimiser.lr, optimiser.clip_norm, optimiser.arguments) == (1e-3, None, {})
    assert optimiser.schedule == Schedule() and stage.registers


def test_settings_of_older_runs_and_newer_ones():
    more = {"clip": 1.0, "ema": 0.9, "schedule": {"kind": "cosine", "warmup": 5}}
    (stage,) = registration_stages({**SETTINGS, **more}, build, loss, {"betas": (0.5, 0.9)})
    (optimiser,) = stage.optimisers
    assert (optimiser.clip_norm, stage.ema) == (1.0, 0.9)
    assert optimiser.schedule == Schedule("cosine", warmup=5)
    assert optimiser.arguments == {"betas": (0.5, 0.9)}


def test_slices_come_first_with_their_own_settings():
    stages = registration_stages({**SETTINGS, "slices_first": FIRST}, build, loss)
    flat, solid = stages
    assert [stage.name for stage in stages] == ["slices", "registration"]
    assert (flat.steps, flat.optimisers[0].lr, flat.batch) == (10, 5e-3, 2)
    assert (solid.steps, solid.optimisers[0].lr, solid.batch) == (30, 1e-3, 2)
    assert solid.registers and not flat.registers
    module = flat.build({"ndim": 3, "width": 1}, {})
    cut = pair().slices()
    with torch.no_grad():
        output = flat.step(module, pair(), context())
        wanted = 3.0 * (module(cut.fixed.image) - cut.moving.image).square().mean()
    assert float(output.terms["loss"]) == pytest.approx(float(wanted))
    assert output.prediction is None  # labels are of volumes


@pytest.mark.parametrize(("pooled", "taps"), [((), (0.0, 1.0, 0.0)), (("0",), (0.25, 0.5, 0.25))])
def test_the_3_d_network_starts_from_the_slices(pooled, taps):
    flat, solid = registration_stages(
        {**SETTINGS, "slices_first": FIRST}, build, loss, pooled=pooled
    )
    config = {"ndim": 3, "width": 1}
    upstream = {"slices": flat.build(config, {})}
    module = solid.build(config, upstream)
    wanted = upstream["slices"][0].weight[:, :, None] * torch.tensor(taps)[:, None, None]
    assert torch.equal(module[0].weight, wanted)
    assert solid.step(module, pair(), context()).prediction is not None
