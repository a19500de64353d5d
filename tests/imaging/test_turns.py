"""Outputs of several processes in one folder: one after another, and whose leftovers are whose."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from regtool.imaging import leftovers
from regtool.imaging.leftovers import make_temporary, sweep, turn

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and processes of POSIX")


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    entered = threading.Event()

    def other() -> None:
        with turn(tmp_path):
            entered.set()

    waiting = threading.Thread(target=other)
    with turn(tmp_path):
        waiting.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    waiting.join()


def test_a_process_of_somebody_else_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system does not let us signal it, but it is there."""
    kept = make_temporary(tmp_path)
    another = kept.with_name(kept.name.replace(f"-{os.getpid()}-", "-4000000-"))
    kept.rename(another)

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(leftovers.os, "kill", refuse)
    sweep(tmp_path)
    assert another.is_dir()
    monkeypatch.undo()
    sweep(tmp_path)
    assert not another.exists()
