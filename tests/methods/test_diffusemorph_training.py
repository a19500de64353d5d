"""Training DiffuseMorph: stopped and resumed runs, and the conformance checks."""

from __future__ import annotations

from pathlib import Path

import pytest
import training_cases
from training_cases import whole_and_resumed

from regtool.engine.training.run import TrainRequest
from regtool.testing import check_method
from regtool_diffusemorph.plugin import regtool_method


def request(folder: Path, ndim: int) -> TrainRequest:
    """A run of six steps; in 3-D of four without the teacher, after two on slices."""
    if ndim == 2:
        words: tuple[str, ...] = ("preparation.size=(32, 32)", "steps=6", "val_every=3")
    else:
        words = ("preparation.size=(8, 16, 16)", "steps=4", "val_every=2", "teacher=0")
    return training_cases.request(folder, "diffusemorph", ndim, *words)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_stopped_run_continues_bit_for_bit(tmp_path, ndim, monkeypatch):
    whole, resumed = whole_and_resumed(lambda f: request(f, ndim), tmp_path, monkeypatch, 6)
    assert resumed == whole


@pytest.mark.parametrize("preset", ["acdc-2d", pytest.param("acdc-3d", marks=pytest.mark.slow)])
def test_conformance(preset):
    check_method(regtool_method(), preset=preset, shapes={2: (32, 48), 3: (16, 32, 48)}, steps=200)
