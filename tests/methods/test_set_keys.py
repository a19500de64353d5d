"""Keys that every preset of a method takes, whatever the preset itself makes of them."""

from __future__ import annotations

import pytest

from regtool.engine.training.settings import apply_overrides, loop_settings
from regtool.plugins import discovery

ALL = ["clip=0.5", "ema=0.9", "schedule={'kind': 'cosine', 'warmup': 3}"]
PRESETS = [
    (name, preset)
    for name in ("voxelmorph", "voxelmorph-diff", "diffusemorph", "fsdiffreg", "vtn", "ldm-morph",
                 "diffusereg", "ad-regnet")
    for preset in discovery.load(name).presets
]  # fmt: skip


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_clip_ema_and_schedule_can_be_set(name, preset):
    method = discovery.load(name)
    words = [*ALL, "network.width=3"] if "voxelmorph" in name else ALL
    changed = apply_overrides(method.presets[preset], words)
    stage = discovery.resolve_import(method.recipe, "recipe")(changed)[-1]
    (optimiser,) = stage.optimisers
    assert (optimiser.clip_norm, stage.ema) == (0.5, 0.9)
    assert (optimiser.schedule.kind, optimiser.schedule.warmup) == ("cosine", 3)
    if "voxelmorph" in name:
        assert changed["network"]["width"] == 3


def test_the_paper_turns_ultrasound_in_smaller_batches_and_flips_its_first_stage():
    acdc, other = (
        discovery.load("ldm-morph").presets[name] for name in ("paper", "paper-ultrasound")
    )
    stages = [preset["training"]["stages"]["diffusion"] for preset in (acdc, other)]
    assert [(s["batch"], s["lr"]) for s in stages] == [(20, 4e-5), (10, 2e-5)]
    for preset in (acdc, other):
        assert loop_settings(preset, "autoencoder").augment.flip == ("x",)
        assert loop_settings(preset, "registration").augment.flip == ()
