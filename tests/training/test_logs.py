"""log.csv and the plain progress lines."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest

from regtool.engine.training import TrainRequest, train
from regtool.engine.training.logs import CsvLog, ProgressLines


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _row(step: int, kind: str = "train", **more: object) -> dict[str, object]:
    return {"stage": "a", "step": step, "kind": kind, "seconds": "0.0", **more}


def test_new_columns_are_added_to_old_rows(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv")
    log.open(None)
    log.row(_row(1, loss=0.5))
    log.row(_row(2, dice=0.7))
    rows = _rows(log.path)
    assert rows[0]["dice"] == "" and rows[0]["loss"] == "0.5" and rows[1]["dice"] == "0.7"


def test_resuming_drops_later_and_torn_rows(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv")
    log.open(None)
    for step in range(1, 6):
        log.row(_row(step, loss=step))
    log.row(_row(4, "val", dice=0.5))
    with log.path.open("a") as file:
        file.write("a,3,tra")
    again = CsvLog(log.path)
    again.open({("a", "train"): 4, ("a", "val"): 3})
    assert [(r["step"], r["kind"]) for r in _rows(log.path)] == [
        (str(n), "train") for n in range(1, 5)
    ]
    again.row(_row(5, loss=1.0))
    assert len(_rows(log.path)) == 5


def test_other_stages_rows_are_kept(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv")
    log.open(None)
    log.row(_row(9))
    log.row(_row(2) | {"stage": "b"})
    log.open({("a", "train"): 100})
    assert [r["stage"] for r in _rows(log.path)] == ["a"]


class _Lines(logging.Handler):
    """What a logger is told, whatever other handlers there are."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def test_lines_instead_of_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    logger, lines = logging.getLogger("regtool.train"), _Lines()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        told = ProgressLines(every=0.0)
        told.start("main", 0, 10)
        told.update(5, 10, "loss 1")
    finally:
        logger.setLevel(level)
        logger.removeHandler(lines)
    assert lines.said == ["main 5/10, 0:00:00 left, loss 1"]
    assert capsys.readouterr().out == ""


class _Watcher:
    """Notes what a run tells of its progress."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, int]]] = {}
        self.notes: list[str] = []

    def start(self, label: str, done: int, total: int) -> None:
        self.seen[label] = [(done, total)]

    def update(self, done: int, total: int, note: str = "") -> None:
        self.seen[list(self.seen)[-1]].append((done, total))
        self.notes.append(note)


def test_a_run_tells_how_far_it_is(tmp_path: Path, table: Path) -> None:
    watcher = _Watcher()
    request = TrainRequest(tmp_path / "run", "toy", [str(table)], steps=4, device="cpu", threads=1)
    train(request, watcher)
    assert watcher.seen == {
        "preparing train pairs": [(n, 3) for n in range(4)],
        "preparing val pairs": [(n, 2) for n in range(3)],
        "main": [(n, 4) for n in range(5)],
    }
    assert watcher.notes[-1].startswith("loss ")
