"""A progress bar and a panel of figures on stderr, for terminals only."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID
    from rich.table import Table

ROWS = 8
"""Lines of figures that stay in view."""


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
