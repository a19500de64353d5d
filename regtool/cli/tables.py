"""Prints data to standard output: tables that fit a terminal, plain columns for a pipe, or JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from regtool.paths import holds_bytes
from regtool.plain import plain


def print_json(data: Any) -> None:
    """Print plain data as indented JSON; sets become sorted lists, NaN and infinity null."""
    values = plain(data)
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        if holds_bytes(text):
            raise UnicodeError
        print(text)
    except UnicodeError:  # or a terminal of another alphabet
        print(json.dumps(values, indent=2, allow_nan=False))


def cell(value: Any) -> str:
    """A value of an option as a user would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(cell, value))
    return str(value)


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), indent: int = 0) -> None:
    """Print aligned columns: for a terminal of any width, one line a row elsewhere."""
    if not rows:
        return
    if sys.stdout.isatty():
        if header and _words_do_not_fit(rows, header, indent):
            _print_blocks(rows, header, indent)
        else:
            _print_folded(rows, header, indent)
        return
    lines = [tuple(header), *map(tuple, rows)] if header else list(map(tuple, rows))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(" " * indent + "  ".join(cells).rstrip())


def _words_do_not_fit(rows: Sequence[Sequence[str]], header: Sequence[str], indent: int) -> bool:
    """Whether the terminal is too narrow for the longest words of all columns side by side."""
    columns = zip(header, *rows, strict=True)
    widths = [
        max(len(word) for cell in column for word in [*cell.split(), ""]) for column in columns
    ]
    needed = indent + sum(widths) + 2 * len(widths)
    return needed > shutil.get_terminal_size().columns


def _print_blocks(rows: Sequence[Sequence[str]], header: Sequence[str], indent: int) -> None:
    """A line for the first cell of a row, and an indented line for each of the others."""
    for first, *others in rows:
        print(" " * indent + first)
        for title, cell in zip(header[1:], others, strict=True):
            print(" " * (indent + 2) + f"{title}: {cell}")


def _print_folded(rows: Sequence[Sequence[str]], header: Sequence[str], indent: int) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    # rich keeps bold under NO_COLOR; whoever sets it wants no escape codes at all.
    table = Table(
        box=None,
        show_header=bool(header),
        header_style="" if os.environ.get("NO_COLOR") else "bold",
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for title in header or rows[0]:
        table.add_column(Text(title) if header else "", overflow="fold")
    for row in rows:
        # Text, not str: rich would take "[…]" in a cell for markup and swallow it.
        table.add_row(*map(Text, row))
    Console(highlight=False).print(Padding(table, (0, 0, 0, indent)))
