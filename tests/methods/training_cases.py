"""Short training runs on generated hearts: asked for, stopped and resumed, compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regtool.engine.training.run import TrainRequest, train
from regtool.engine.training.stepper import Stepper


def request(folder: Path, method: str, ndim: int, *words: str) -> TrainRequest:
    """A run of the preset ``acdc-…`` with a checkpoint after every second step.

    ``words`` are further ``--set``; the 3-D run has two steps on slices first.
    """
    common = [f"batch={2 if ndim == 2 else 1}", "checkpoint_every=2", "log_every=1"]
    if ndim == 3:
        common.append("slices_first.steps=2")
    return TrainRequest(
        output=folder, method=method, preset=f"acdc-{ndim}d", threads=1,
        data=[f"phantom:heart{ndim}d?n=3&size=32"], assignments=[*common, *words],
    )  # fmt: skip


def weights(folder: Path) -> bytes:
    """The weights that a run exported."""
    (file,) = folder.glob("weights/*/model.safetensors")
    return file.read_bytes()


def whole_and_resumed(
    make: Callable[[Path], TrainRequest],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> tuple[bytes, bytes]:
    """Weights of a run, and of the same run cut off at its ``stop``-th step and resumed."""
    train(make(folder / "whole"))
    made, step = [], Stepper.step

    def failing(self: Stepper, number: int):
        made.append(number)
        if len(made) == stop:
            raise RuntimeError("cut off")
        return step(self, number)

    monkeypatch.setattr(Stepper, "step", failing)
    with pytest.raises(RuntimeError, match="cut off"):
        train(make(folder / "stopped"))
    monkeypatch.undo()
    train(TrainRequest(output=folder / "stopped", resume=True, threads=1))
    return weights(folder / "whole"), weights(folder / "stopped")
