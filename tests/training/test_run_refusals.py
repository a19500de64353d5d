"""What is refused before or while the toy method is trained, in one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toy

from regtool.engine.training import TrainResult
from regtool.engine.training.export import exported_state
from regtool.engine.training.lock import locked
from regtool.errors import InputError, OutputError, PluginError, UsageError

Run = Callable[..., TrainResult]


def test_later_stage_needs_the_earlier_one(run: Run) -> None:
    with pytest.raises(UsageError, match="train the stage 'main'"):
        run(preset="two", stage="fine")
    with pytest.raises(UsageError, match="has main, fine"):
        run("other", preset="two", stage="final")
    with pytest.raises(UsageError, match="which with --stage"):
        run("third", preset="two", batch=2)


@pytest.mark.parametrize(
    ("value", "message"),
    [(1e5, "head.bias does not fit into float16; .*storage=float32"),
     (float("nan"), "head.bias is no longer finite")],
)  # fmt: skip
def test_weights_that_cannot_be_stored(value: float, message: str) -> None:
    net = training_toy.Net(2)
    torch.nn.init.constant_(net.head.bias, value)
    with pytest.raises(UsageError, match=message):
        exported_state(net, "float16")


def test_used_folder_is_refused_unless_told(run: Run, tmp_path: Path) -> None:
    run(steps=2)
    with pytest.raises(OutputError, match="not empty"):
        run()
    assert run(steps=3, overwrite=True).step == 3
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"):
        run("file")


def test_data_that_cannot_be_read_leave_nothing_in_the_way(run: Run, tmp_path: Path) -> None:
    """What was prepared before it was noticed is kept for the corrected command."""
    with pytest.raises(InputError, match="no such table"):
        run(data=[str(tmp_path / "nothing.csv")])
    assert not (tmp_path / "run").exists()
    table = training_toy.make_data(tmp_path / "own")
    (table.parent / "0_moving.nii.gz").write_bytes(b"damaged")  # of a pair that validates
    with pytest.raises(InputError, match="0_moving"):
        run(data=[str(table)])
    left = tmp_path / "run" / "cache" / "train.safetensors"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", "cache"]
    before = left.stat().st_mtime_ns
    (table.parent / "0_moving.nii.gz").write_bytes((table.parent / "1_moving.nii.gz").read_bytes())
    assert run(data=[str(table)], steps=1).step == 1
    assert left.stat().st_mtime_ns == before


def test_two_processes_do_not_share_a_folder(run: Run, tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(OutputError, match="another process"):
        run()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"method": None}, "-m METHOD"), ({"data": ()}, "--data"), ({"preset": "huge"}, "--preset"),
     ({"precision": "fp8"}, "--precision"), ({"device": "quantum"}, "--device"),
     ({"batch": 0}, "--batch")],
)  # fmt: skip
def test_wrong_requests(run: Run, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(**change)


def test_recipe_that_does_not_fit_the_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_toy, "build", lambda config: training_toy.Net(9))
    with pytest.raises(PluginError, match="does not fit its model"):
        run()


def test_deterministic_on_cuda_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from regtool.engine.training import runtime

    monkeypatch.setattr(runtime, "choose_device", lambda name: torch.device("cuda"))
    with pytest.raises(UsageError, match="grid_sample"):
        run(deterministic=True, device="cuda")
