"""The shipped weights of LDM-Morph, on real hearts."""

from __future__ import annotations

import numpy as np
import pytest
from real_hearts import gains, records

from regtool.plugins import discovery
from regtool.weights import resolve


def test_shipped_weights_load_and_are_small():
    found = resolve(discovery.load("ldm-morph"), None, 2, offline=True)
    assert found.pinned
    assert found.model.stat().st_size < 14 * 2**20
    assert set(found.config["training"]["frozen"]) == {"registrar.encoder", "registrar.denoiser"}
    assert found.config["options"] == {"passes": 2}


def test_improves_dice_on_real_hearts(shared_data):
    found = records(shared_data, "ldm-morph", "z", limit=2)
    assert min(gains(found)) > 0.02
    assert np.mean(gains(found)) > 0.1
    assert np.mean([r["jacobian"]["percent"] for r in found]) < 0.5


@pytest.mark.slow
def test_keeps_what_the_card_says_on_the_validation_patients(shared_data):
    found = records(shared_data, "ldm-morph", "z")
    assert np.mean([r["dice"]["after"]["mean"] for r in found]) >= 0.77
    assert np.mean([r["jacobian"]["percent"] for r in found]) < 0.5
