"""``--init-weights`` for a later stage, and for a run that is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from regtool.engine.training import TrainResult
from regtool.engine.training.checkpoint import load_checkpoint
from regtool.errors import UsageError, WeightsError

Run = Callable[..., TrainResult]

STILL: dict[str, Any] = {"steps": 1, "lr": 1e-12}


def _training(result: TrainResult) -> dict[str, Any]:
    assert result.weights is not None
    found: dict[str, Any] = json.loads((result.weights / "config.json").read_text())["training"]
    return found


def _last(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a run's checkpoint holds."""
    return dict(load_checkpoint(folder / "checkpoint.safetensors")[0]["model"])


def test_a_later_stage_starts_from_the_weights_given(run: Run) -> None:
    source = run("source", preset="two", seed=5)
    folder = run(preset="two", stage="main").folder
    result = run(preset="two", stage="fine", resume=True, init_weights=str(source.folder), **STILL)
    kept = load_file(folder / "stages/fine.safetensors")
    torch.testing.assert_close(kept, _last(source.folder))
    assert _training(result)["init_weights"] == "source"


def test_a_later_stage_with_initial_weights_is_resumed(run: Run, tmp_path: Path) -> None:
    """Its frozen part is then that of the weights, as the card says, and no longer the earlier
    stage's."""
    source = run("source", preset="two", seed=5)
    folder = run(preset="two", stage="main").folder
    run(preset="two", stage="fine", resume=True, init_weights=str(source.folder), steps=3)
    frozen = _training(source)["frozen"]
    source.folder.rename(tmp_path / "away")
    result = run(preset="two", stage="fine", resume=True, steps=6)
    assert result.step == 6
    wanted = load_file(tmp_path / "away/stages/fine.safetensors")
    kept = load_file(folder / "stages/fine.safetensors")
    assert torch.equal(kept["body.weight"], wanted["body.weight"])
    assert _training(result)["init_weights"] == "source"
    assert _training(result)["frozen"] == frozen


def test_a_stage_that_goes_on_takes_no_other_weights(run: Run) -> None:
    source = run("source", steps=2)
    run(steps=2)
    with pytest.raises(UsageError, match="init_weights: not given before"):
        run(steps=2, resume=True, init_weights=str(source.folder))


def test_a_stage_that_goes_on_under_its_own_name_takes_no_other_weights(run: Run) -> None:
    """The run was asked for all stages before, and stopped in the one that is named now."""
    source = str(run("source", preset="two", steps=2).folder)
    run(preset="two", steps=2)
    with pytest.raises(UsageError, match="'fine' goes on from its checkpoint at step 2 and would"):
        run(preset="two", stage="fine", resume=True, init_weights=source)
    assert run(preset="two", stage="fine", resume=True).step == 2
    again = run(preset="two", stage="main", resume=True, init_weights=source, **STILL)
    assert (again.stage, again.step) == ("main", 1)


def test_weights_that_a_stage_began_with_may_be_repeated(run: Run) -> None:
    source = str(run("source", preset="two", steps=1).folder)
    given = {"preset": "two", "steps": 6, "init_weights": source}
    cut = run(**given, assignments=["pause=0.02"], time_limit=0.06)
    assert (cut.ending, cut.stage) == ("time", "main")
    rest = run(preset="two", stage="main", resume=True, init_weights=source, steps=6)
    assert rest.step == 6


def test_weights_that_cannot_be_had_leave_nothing_in_the_way(run: Run, tmp_path: Path) -> None:
    source = run("source", **STILL)
    run("wide", assignments=["network.width=5"], **STILL)
    for wrong in ("nosuch", str(tmp_path / "wide")):
        with pytest.raises(WeightsError):
            run(init_weights=wrong, **STILL)
        assert not (tmp_path / "run").exists()
    assert run(init_weights=str(source.folder), **STILL).step == 1


def test_a_run_without_a_checkpoint_takes_other_weights(run: Run) -> None:
    source = run("source", seed=5)
    folder = run(**STILL).folder
    (folder / "checkpoint.safetensors").unlink()
    result = run(resume=True, init_weights=str(source.folder), **STILL)
    kept = load_file(folder / "stages/main.safetensors")
    torch.testing.assert_close(kept, _last(source.folder))
    assert _training(result)["init_weights"] == "source"
