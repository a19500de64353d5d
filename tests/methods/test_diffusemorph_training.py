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
    """A run of four steps; in 3-D without the teacher, after two on slices."""
    if ndim == 2:
        words: tuple[str, ...] = ("preparation.size=(32, 32)", "network.score.width=8",
                                  "network.score.groups=4", "network.field.width=1")  # fmt: skip
    else:
        words = ("preparation.size=(8, 16, 16)", "teacher=0")
    return training_cases.request(folder, "diffusemorph", ndim, *words, "steps=4", "val_every=2")


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_stopped_run_continues_bit_for_bit(tmp_path, ndim, monkeypatch):
    stop = 4 if ndim == 2 else 6
    whole, resumed = whole_and_resumed(lambda f: request(f, ndim), tmp_path, monkeypatch, stop)
    assert resumed == whole


@pytest.mark.parametrize("preset", ["acdc-2d", pytest.param("acdc-3d", marks=pytest.mark.slow)])
def test_conformance(preset):
    check_method(regtool_method(), preset=preset, shapes={2: (32, 48), 3: (16, 32, 48)}, steps=200)
