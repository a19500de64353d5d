"""Paths as users, tables and records name them: asking about one never raises.

``pathlib`` raises for a home folder of nobody (``~nobody/x``), for names that are too long, and for
folders that may not be looked into. Here these are paths at which nothing is; whoever then opens
one says so in its own words.
"""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` or ``~name`` as that home folder; one of nobody stays as it is."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # of nobody; with a NUL in its name
        return Path(path)


def resolved(path: str | os.PathLike[str]) -> Path:
    """The path from the root without links; what cannot be looked up stays as it is."""
    try:
        return Path(os.path.realpath(expanded(path)))
    except ValueError:  # a NUL in its name
        return Path(path)


def holds_bytes(text: str) -> bool:
    """Whether a text holds bytes of a file name that is not UTF-8, as surrogates (PEP 383)."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a regular file, or a link to one."""
    return os.path.isfile(path)  # noqa: PTH113


def is_dir(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder, or a link to one."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is anything; a link that leads nowhere is nothing."""
    return os.path.exists(path)  # noqa: PTH110
