"""What ``--overwrite`` and ``--resume`` may take away, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import training_toy

from regtool.engine.training import TrainResult
from regtool.errors import InputError, OutputError, RegtoolError, UsageError, WeightsError

Run = Callable[..., TrainResult]
Read = Callable[[Path], list[dict[str, str]]]


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock and what was prepared."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    names = {p.relative_to(folder): p for p in files}
    return {
        str(n): p.read_bytes() for n, p in names.items() if n.parts[0] not in (".lock", "cache")
    }


@pytest.mark.parametrize("name", ["weights", "stages", "tensorboard"])
def test_a_folder_that_holds_no_run_is_not_overwritten(run: Run, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "run" / name / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match="holds no run"):
        run(steps=1, overwrite=True)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("there", [(), ("mine.txt",), ("mine.txt", ".lock")])
@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_refused_folder_is_left_as_it_was(
    run: Run, tmp_path: Path, there: tuple[str, ...], how: dict[str, bool]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in there:
        (folder / name).write_text("mine")
    with pytest.raises(RegtoolError):
        run(steps=0 if not there else 1, **how)
    assert {p.name: p.read_text() for p in folder.iterdir()} == dict.fromkeys(there, "mine")


def test_folders_made_for_a_refused_run_go_again(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run("new/deep/run", steps=0)
    assert not (tmp_path / "new").exists()


def test_a_lock_that_its_owner_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking it: else two would train in the folder."""
    from regtool.engine.training import lock

    path, once = tmp_path / ".lock", [True]
    flock = lock.fcntl.flock

    def slow(*arguments: Any) -> None:
        if once:
            once.clear()
            path.unlink()
        flock(*arguments)

    monkeypatch.setattr(lock.fcntl, "flock", slow)
    with (
        lock.locked(tmp_path),
        pytest.raises(OutputError, match="another process"),
        lock.locked(tmp_path),
    ):
        pass
    assert path.exists()


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


def test_a_run_stands_until_the_new_one_is_prepared(run: Run, tmp_path: Path, rows: Read) -> None:
    folder = run(steps=2).folder
    before = _contents(folder)
    table = training_toy.make_data(tmp_path / "own")
    (table.parent / "4_moving.nii.gz").write_bytes(b"damaged")
    with pytest.raises(InputError, match="4_moving"):
        run(data=[str(table)], overwrite=True)
    assert _contents(folder) == before
    assert run(resume=True, steps=2).ending == "finished"


def test_a_run_does_not_start_from_what_it_replaces(run: Run, tmp_path: Path) -> None:
    folder = run(steps=2).folder
    before = _contents(folder)
    for source in (folder, folder / "checkpoint.safetensors", folder / "weights" / "toy-tiny"):
        with pytest.raises(UsageError, match="--init-weights"):
            run(steps=1, overwrite=True, init_weights=str(source))
    assert _contents(folder) == before


def test_resuming_without_a_checkpoint_deletes_nothing(run: Run, rows: Read) -> None:
    folder = run(preset="two", stage="main").folder
    before, log = _contents(folder), rows(folder)
    (folder / "checkpoint.safetensors").unlink()
    result = run(preset="two", stage="fine", resume=True)
    assert result.stage == "fine" and result.weights is not None
    after = _contents(folder)
    assert after["stages/main.safetensors"] == before["stages/main.safetensors"]
    assert rows(folder)[: len(log)] == log


def test_a_start_that_cannot_succeed_replaces_nothing(run: Run, tmp_path: Path) -> None:
    folder = run(preset="two", steps=2, stage="main").folder
    run("other", steps=1, assignments=["network.width=5"])
    before = _contents(folder)
    with pytest.raises(WeightsError):
        run(preset="two", overwrite=True, init_weights=str(tmp_path / "other"))
    with pytest.raises(UsageError, match="train --resume"):
        run(preset="two", overwrite=True, stage="fine")
    assert _contents(folder) == before
