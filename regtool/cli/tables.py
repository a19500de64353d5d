"""Prints data to standard output: tables that fit a terminal, plain columns for a pipe, or JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_json(data: Any) -> None:
    """Print plain data as indented JSON; sets become sorted lists, NaN and infinity null."""
    print(json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), indent: int = 0) -> None:
    """Print aligned columns: folded to the width of a terminal, one line a row elsewhere."""
    if not rows:
        return
    if sys.stdout.isatty():
        _print_folded(rows, header, indent)
        return
    lines = [tuple(header), *map(tuple, rows)] if header else list(map(tuple, rows))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(" " * indent + "  ".join(cells).rstrip())


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


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (set, frozenset)):
        return [_plain(item) for item in sorted(value)]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)
