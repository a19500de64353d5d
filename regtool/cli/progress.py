"""Progress on stderr: bars and a panel of figures for a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID
    from rich.table import Table

log = logging.getLogger("regtool.cli")

ROWS = 8
"""Lines of figures that stay in view."""

PAUSE = 30.0
"""Seconds between two lines of progress where there is no terminal."""


class Watcher:
    """Moves the bars and shows the figures of a method while it works."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.rows: list[Mapping[str, float]] = []
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move the bar of ``what``."""
        if what not in self._tasks:
            self._tasks[what] = self.bars.add_task(what, total=total)
        self.bars.update(self._tasks[what], completed=done, total=total)

    def stage(self, name: str) -> None:
        """A part of the work begins; the bars say enough."""

    def show(self, numbers: Mapping[str, float]) -> None:
        """Add a line of figures, named alike each time."""
        self.rows = [*self.rows, dict(numbers)][-ROWS:]

    def table(self) -> Table:
        """The latest figures."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name in self.rows[-1]:
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(*(f"{row.get(name, float('nan')):.4g}" for name in self.rows[-1]))
        return table

    def __rich__(self) -> RenderableType:
        from rich.console import Group

        return Group(self.table(), self.bars) if self.rows else self.bars


class Lines:
    """Where nobody watches: a line every ``PAUSE`` seconds with the stage and the step in it."""

    def __init__(self, method: str = "method") -> None:
        self._method = method
        self._where, self._step = "at work", ""
        self._started = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True, name="progress")
        self._thread.start()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note the step; it is told when its time comes."""
        self._step = f", step {done} of {total}"

    def stage(self, name: str) -> None:
        """A part of the work begins."""
        self._step, self._where = "", self._method if name == "network" else name

    def show(self, numbers: Mapping[str, float]) -> None:
        """Figures are for terminals."""

    def close(self) -> None:
        """Say no more."""
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._over.wait(PAUSE):
            seconds = time.monotonic() - self._started
            log.info("%s%s, %.0f s so far", self._where, self._step, seconds)


@contextlib.contextmanager
def watch(quiet: bool = False, method: str = "method") -> Iterator[Watcher | Lines | None]:
    """What looks on while one pair is registered; None where nothing is to be said.

    ``method`` names its own part of the work: not all methods are networks.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with bar() as watcher:
            yield watcher
    else:
        with contextlib.closing(Lines(method)) as lines:
            yield lines


@contextlib.contextmanager
def bar(quiet: bool = False) -> Iterator[Watcher | None]:
    """Yield a ``Watcher``, to be called with (what, done, total); None where nobody is watching."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    watcher = Watcher(Progress(*columns, auto_refresh=False))
    with Live(watcher, console=Console(stderr=True), transient=True):
        yield watcher


class StepBar:
    """One bar for the steps of a training, with the time left; it appears when they start."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, label: str, done: int, total: int) -> None:
        """Count something new, in place of what was counted before."""
        if self._bar is None:
            self._bar = _step_columns()
            self._bar.start()
        elif self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(label, total=total, completed=done, note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move on; a note stays until there is another."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
            if note:
                self._bar.update(self._task, note=note)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()


def _step_columns() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True),
        refresh_per_second=4,
    )  # fmt: skip


@contextlib.contextmanager
def steps(quiet: bool = False) -> Iterator[StepBar | None]:
    """Yield a ``StepBar``; None where nobody is watching."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with contextlib.closing(StepBar()) as shown:
        yield shown
