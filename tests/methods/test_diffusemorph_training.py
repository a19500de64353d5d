"""Training DiffuseMorph: stopped and resumed runs, and the conformance checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from regtool.engine.training.run import TrainRequest, train
from regtool.engine.training.stepper import Stepper
from regtool.testing import check_method
from regtool_diffusemorph.plugin import regtool_method


def request(folder: Path, ndim: int) -> TrainRequest:
    """A run of a few steps on generated hearts, with a checkpoint after every second."""
    size = "(32, 32)" if ndim == 2 else "(16, 32, 32)"
    words = [f"preparation.size={size}", "steps=6", f"batch={2 if ndim == 2 else 1}",
             "checkpoint_every=2", "val_every=3", "log_every=1"]  # fmt: skip
    if ndim == 3:
        words.append("slices_first.steps=2")
    return TrainRequest(
        output=folder, method="diffusemorph", preset=f"acdc-{ndim}d",
        data=[f"phantom:heart{ndim}d?n=3&size=32"], assignments=words, threads=1, quiet=True,
    )  # fmt: skip


def weights(folder: Path) -> bytes:
    (file,) = folder.glob("weights/*/model.safetensors")
    return file.read_bytes()


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_stopped_run_continues_bit_for_bit(tmp_path, ndim, monkeypatch):
    train(request(tmp_path / "whole", ndim))
    made, step = [], Stepper.step

    def failing(self: Stepper, number: int):
        made.append(number)
        if len(made) == 6:
            raise RuntimeError("cut off")
        return step(self, number)

    monkeypatch.setattr(Stepper, "step", failing)
    with pytest.raises(RuntimeError, match="cut off"):
        train(request(tmp_path / "stopped", ndim))
    monkeypatch.undo()
    train(TrainRequest(output=tmp_path / "stopped", resume=True, threads=1, quiet=True))
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


@pytest.mark.parametrize("preset", ["acdc-2d", pytest.param("acdc-3d", marks=pytest.mark.slow)])
def test_conformance(preset):
    check_method(regtool_method(), preset=preset, shapes={2: (32, 48), 3: (16, 32, 48)}, steps=200)
