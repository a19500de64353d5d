"""What ``--overwrite`` and ``--resume`` may take away, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import training_toy
from conftest import Rows

from regtool.engine.training import TrainResult
from regtool.errors import InputError, OutputError, UsageError

Run = Callable[..., TrainResult]
Read = Callable[[Path], Rows]


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock and what was prepared."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    names = {p.relative_to(folder): p for p in files}
    return {str(n): p.read_bytes() for n, p in names.items() if n.parts[0] not in (".lock", "cache")}


@pytest.mark.parametrize("name", ["weights", "stages", "tensorboard"])
def test_a_folder_that_holds_no_run_is_not_overwritten(
    run: Run, tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "run" / name / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match="holds no run"):
        run(steps=1, overwrite=True)
    assert mine.read_text() == "mine"


def test_what_a_start_without_success_leaves_may_be_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run" / "cache").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    assert run(steps=1, overwrite=True).step == 1


def test_overwrite_replaces_a_run_and_leaves_strange_files_alone(run: Run, tmp_path: Path) -> None:
    run(preset="gan", steps=2)
    (tmp_path / "run/notes.txt").write_text("mine")
    run(steps=1, overwrite=True)
    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    assert [p.name for p in (tmp_path / "run/stages").iterdir()] == ["main.safetensors"]
    assert [p.name for p in (tmp_path / "run/weights").iterdir()] == ["toy-tiny"]
