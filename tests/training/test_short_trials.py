"""Short trials of presets that train in stages, and what leads to the next command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regtool.engine.training import TrainResult
from regtool.engine.training.settings import read_settings
from regtool.errors import OutputError, UsageError

Rows = list[dict[str, str]]
Run = Callable[..., TrainResult]
Read = Callable[[Path], Rows]


def _last_steps(log: Rows) -> dict[str, int]:
    """The last logged step of each stage."""
    return {r["stage"]: int(r["step"]) for r in log if r["kind"] == "train"}


def test_steps_without_a_stage_shorten_every_stage(run: Run, rows: Read) -> None:
    result = run(preset="two", steps=3)
    assert _last_steps(rows(result.folder)) == {"main": 3, "fine": 3}
    assert result.weights is not None
    config = json.loads((result.weights / "config.json").read_text())
    assert config["training"]["steps"] == config["training"]["steps_done"] == 3
    settings = read_settings(result.folder / "settings.json")
    assert (settings.stage, settings.steps) == (None, 3)


def test_steps_without_a_stage_lengthen_none(run: Run, rows: Read) -> None:
    result = run(preset="two", steps=50, assignments=["steps=2"])
    assert _last_steps(rows(result.folder)) == {"main": 2, "fine": 2}


def test_a_short_trial_that_was_stopped_goes_on_as_short(run: Run, rows: Read) -> None:
    limits = {"preset": "two", "steps": 6, "assignments": ["pause=0.02"]}
    cut = run("cut", **limits, time_limit=0.06)
    assert cut.ending == "time" and (cut.stage, cut.step) < ("main", 6)
    rest, straight = run("cut", resume=True, method=None, data=()), run("straight", **limits)
    assert rows(rest.folder) == rows(straight.folder)


def test_one_stage_of_a_short_trial_stays_short(run: Run, rows: Read) -> None:
    folder = run(preset="two", steps=50, assignments=["steps=3"]).folder
    again = run(preset="two", stage="fine", resume=True)
    assert again.step == 3 and _last_steps(rows(folder)) == {"main": 3, "fine": 3}
    assert read_settings(folder / "settings.json").steps == 3


def test_more_steps_do_not_belie_a_stage_that_is_finished(run: Run, rows: Read) -> None:
    folder = run(preset="two", steps=3).folder
    with pytest.raises(UsageError, match="steps: 3 before, 6 now"):
        run(preset="two", steps=6, resume=True)
    run(preset="two", stage="fine", steps=6, resume=True)
    assert _last_steps(rows(folder)) == {"main": 3, "fine": 6}


def test_a_rate_still_needs_its_stage(run: Run) -> None:
    with pytest.raises(UsageError, match=r"--lr: .*which with --stage \(main, fine\)"):
        run(preset="two", lr=0.1)


def test_a_later_stage_alone_names_what_to_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        run(preset="two", stage="fine")
    assert "--stage main" in str(caught.value)
    assert f"regtool train --resume --stage fine -o {tmp_path / 'run'}" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_next_stage_in_a_used_folder_names_the_line(run: Run, tmp_path: Path) -> None:
    run(preset="two", stage="main", steps=2)
    with pytest.raises(OutputError, match="not empty") as caught:
        run(preset="two", stage="fine")
    line = f"regtool train --resume --stage fine -o {tmp_path / 'run'}"
    assert line in str(caught.value)
    with pytest.raises(OutputError, match="with --resume, replace"):
        run(preset="two", stage="main")
    with pytest.raises(UsageError, match="--stage nosuch: method 'toy' has main, fine"):
        run(preset="two", stage="nosuch")


def test_the_start_says_how_long_every_stage_is(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="regtool.train"):
        run(preset="two", steps=2)
        assert "stages: main 2 steps, fine 2 steps" in caplog.messages
        caplog.clear()
        run("one", steps=1)
        assert not [m for m in caplog.messages if m.startswith("stages:")]
