"""The tables of measured numbers, read from the README so that they are written once."""

from __future__ import annotations

import re
from collections.abc import Iterator

from regtool_docs.places import ROOT

_KEPT = ("before", "-m optimise")
"""Rows that every method is compared with."""


def tables() -> list[list[str]]:
    """The README's tables that hold Dice, as lists of lines: header, rule, rows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [t.splitlines() for t in found if "mean Dice" in t.splitlines()[0]]


def section(name: str) -> Iterator[str]:
    """What the README has measured of one method, with what it is compared with."""
    chosen = []
    for lines in tables():
        rows = [line for line in lines[2:] if _of(line, name)]
        if rows:
            kept = [line for line in lines[2:] if _cell(line) in _KEPT and line not in rows]
            chosen.append("\n".join([*lines[:2], *kept, *rows]))
    if chosen:
        yield "## Our numbers\n"
        yield "\n\n".join(chosen) + "\n"
        yield "How they were measured: [Methods](index.md#numbers).\n"


def everything() -> str:
    """The README's tables of numbers, each with the paragraphs that follow it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = []
    for lines in tables():
        start = text.index(lines[0])
        end = text.find("\n## ", start)
        part = text[start : end if end >= 0 else len(text)]
        following = re.search(r"\n\| [^\n]*mean Dice", part[10:])
        parts.append(part[: following.start() + 10] if following else part)
    return "## Numbers\n\n" + "\n\n".join(part.strip() for part in parts) + "\n"


def _cell(line: str) -> str:
    return line.strip("|").split("|")[0].strip().strip("`")


def _of(line: str, name: str) -> bool:
    """Whether a row is one of the method's: `-m NAME …`, or its bare name at the start."""
    cell = _cell(line)
    return re.match(rf"(-m )?{re.escape(name)}(?![\w-])", cell, re.I) is not None
