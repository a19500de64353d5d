"""Where a run's figures go: log.csv, TensorBoard, whoever watches, or plain lines."""

from __future__ import annotations

import csv
import io
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from regtool.engine.training.checkpoint import write_atomically
from regtool.errors import OutputError

log = logging.getLogger("regtool.train")

_FIRST = ("stage", "step", "kind", "seconds", "lr", "loss")


class CsvLog:
    """log.csv: one row for each training window and each validation.

    Columns appear when first used (the file is then rewritten). Numbers are written with all
    their digits, so two logs can be compared bit for bit (all columns but ``seconds``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = list(_FIRST)

    def open(self, done: Mapping[tuple[str, str], int] | None) -> None:
        """Start afresh, or keep the rows up to the step that ``done`` has for (stage, kind)."""
        rows = []
        if done is not None and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or _FIRST)
                rows = [
                    r
                    for r in reader
                    if _complete(r) and int(r["step"]) <= done.get((r["stage"], r["kind"]), -1)
                ]
        self._rewrite(rows)

    def row(self, values: Mapping[str, Any]) -> None:
        """Append one row and hand it to the operating system."""
        new = [key for key in values if key not in self.columns]
        if new:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [r for r in csv.DictReader(file) if _complete(r)]
            self.columns += new
            self._rewrite(rows)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(values)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(
            self.path,
            lambda p: p.write_text(text.getvalue(), encoding="utf-8", newline=""),
        )


def _complete(row: Mapping[Any, Any]) -> bool:
    """Whether a row was written whole (a killed run may leave half of one)."""
    return (
        None not in row not in row.values()
        and bool(row.get("stage"))
        and re.fullmatch(r"\d{1,18}", str(row.get("step"))) is not None
    )


class Progress(Protocol):
    """Who is told how far a run is, such as a bar on a terminal."""

    def start(self, label: str, done: int, total: int) -> None:
        """Begin counting something new."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move on; called at every step."""


class ProgressLines:
    """Where nobody watches: a line in the log every half minute, with the time left."""

    def __init__(self, every: float = 30.0) -> None:
        self._every = every
        self._label = ""
        self._start = (time.monotonic(), 0)
        self._next = 0.0

    def start(self, label: str, done: int, total: int) -> None:
        """Begin counting something new."""
        self._label = label
        self._start = (time.monotonic(), done)
        self._next = time.monotonic() + self._every

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move on; cheap enough for every step."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            more = f", {note}" if note else ""
            log.info("%s %d/%d%s%s", self._label, done, total, self._left(done, total), more)

    def _left(self, done: int, total: int) -> str:
        since, first = self._start
        if done <= first:
            return ""
        left = (time.monotonic() - since) / (done - first) * (total - done)
        hours, rest = divmod(int(left), 3600)
        return f", {hours:d}:{rest // 60:02d}:{rest % 60:02d} left"


class Logs:
    """All of a run's outputs of figures; silent on ranks other than the first."""

    def __init__(self, folder: Path, accelerator: Any, bar: Progress, main: bool) -> None:
        self.bar = bar
        self._main = main
        self._accelerator = accelerator
        self._csv = CsvLog(folder / "log.csv")
        self._folder = folder
        self._hook = threading.excepthook

    def open(self, done: Mapping[tuple[str, str], int] | None) -> None:
        """Open the files; ``done`` ((stage, kind) -> step) tells a resumed run what to keep."""
        if not self._main:
            return
        self._csv.open(done)
        threading.excepthook = self._of_thread
        with self._told():
            self._accelerator.init_trackers("tensorboard")

    def figures(
        self, stage: str, step: int, kind: str, values: Mapping[str, float], seconds: float
    ) -> None:
        """Record named figures of one step; ``kind`` is train or val."""
        if not self._main:
            return
        self._csv.row(
            {
                "stage": stage,
                "step": step,
                "kind": kind,
                "seconds": f"{seconds:.1f}",
                **{k: repr(float(v)) for k, v in values.items()},
            }
        )
        with self._told():
            self._accelerator.log(
                {f"{stage}/{kind}/{k}": float(v) for k, v in values.items()}, step=step
            )

    def close(self) -> None:
        """Flush and close TensorBoard's file. Raises OutputError."""
        if not self._main:
            return
        try:
            with self._told():
                for tracker in self._accelerator.trackers:
                    tracker.finish()
        finally:
            threading.excepthook = self._hook

    @contextmanager
    def _told(self) -> Iterator[None]:
        """TensorBoard's troubles with the disk, as OutputError."""
        try:
            yield
        except OSError as error:
            place = self._folder / "tensorboard"
            raise OutputError(f"{place}: cannot be written: {error.strerror or error}") from error

    def _of_thread(self, failed: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread, and raises what befell it there once more here."""
        if not isinstance(failed.exc_value, OSError):
            self._hook(failed)
