"""Runs of the toy method that were cut off, and what goes on where they ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toy
from conftest import Rows

from regtool.engine.training import TrainResult
from regtool.engine.training.checkpoint import load_checkpoint
from regtool.engine.training.settings import read_settings
from regtool.engine.training.state import DivergedError
from regtool.errors import (
    DeviceError,
    UsageError,
)

Run = Callable[..., TrainResult]
Read = Callable[[Path], Rows]


def test_broken_loss_stops_and_keeps_the_last_good_checkpoint(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step 9.*last good state, step 6") as caught:
        run(assignments=["nan_at=8", "checkpoint_every=6"])
    assert caught.value.exit_code == 2
    parts, state = load_checkpoint(tmp_path / "run/checkpoint.safetensors")
    assert state["step"] == 6
    assert all(bool(v.isfinite().all()) for v in parts["model"].values())
    again = run("again", init_weights=str(tmp_path / "run"), lr=1e-3)
    assert again.ending == "finished"


def test_time_limit_leaves_checkpoint_and_weights_and_resumes(run: Run, rows: Read) -> None:
    limits = {"assignments": ["pause=0.05"], "time_limit": 2.0, "steps": 60}
    result = run("cut", **limits)
    assert result.ending == "time" and 0 < result.step < 60
    assert result.weights is not None and (result.weights / "model.safetensors").exists()
    _, state = load_checkpoint(result.folder / "checkpoint.safetensors")
    assert state["step"] == result.step
    rest = run("cut", resume=True, method=None, data=())
    straight = run("straight", **(limits | {"time_limit": None}))
    assert rest.step == 60 and rows(rest.folder) == rows(straight.folder)


def test_time_limit_before_the_first_validation_still_exports(run: Run) -> None:
    result = run(time_limit=1e-3)
    assert result.ending == "time" and result.step == 0 and result.best is None
    assert result.weights is not None and (result.weights / "config.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"lr": 0.5}, "lr: not given before, 0.5 now"), ({"seed": 3}, "seed: 0 before, 3 now"),
     ({"assignments": ["network.width=5"]}, "network.width: 4 before, 5 now"),
     ({"label_loss": 1.0}, "label_loss")],
)  # fmt: skip
def test_resume_refuses_other_settings(run: Run, change: dict[str, Any], message: str) -> None:
    run(steps=2)
    with pytest.raises(UsageError, match=message):
        run(steps=2, resume=True, **change)


def test_resume_extends_a_constant_schedule_only(run: Run, rows: Read) -> None:
    run("a", steps=8)
    longer, straight = run("a", steps=16, resume=True), run("b", steps=16)
    assert rows(longer.folder) == rows(straight.folder)
    run("c", preset="cosine", steps=8)
    with pytest.raises(UsageError, match="steps: 8 before, 16 now"):
        run("c", preset="cosine", steps=16, resume=True)


def test_resume_of_a_finished_run_changes_nothing(run: Run, rows: Read) -> None:
    before = rows(run().folder)
    again = run(resume=True)
    assert again.ending == "finished" and rows(again.folder) == before


def test_resume_notices_other_images(run: Run, tmp_path: Path) -> None:
    table = training_toy.make_data(tmp_path / "own")
    run(data=[str(table)], steps=2)
    image = table.parent / "4_moving.nii.gz"
    image.write_bytes((table.parent / "3_moving.nii.gz").read_bytes())
    with pytest.raises(UsageError, match="no longer those"):
        run(data=[str(table)], steps=2, resume=True)


def test_resume_without_a_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        run(resume=True)
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no run"):
        run(resume=True)
    with pytest.raises(UsageError, match="give only one"):
        run(resume=True, overwrite=True)


def test_resume_goes_on_on_the_same_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from regtool.engine.training import runtime

    folder = run(steps=2).folder
    asked: list[str] = []

    def note(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "choose_device", note)
        for device in (None, "auto", None, "cuda:99"):
            run(steps=2, resume=True, device=device)
    assert asked == ["cpu", "auto", "auto", "cuda:99"]
    assert read_settings(folder / "settings.json").device == "cuda:99"
    with pytest.raises(DeviceError, match="--device cuda:99"):
        run(steps=2, resume=True, device=None)
