"""Fills the wild cards of the navigation."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

INDEX = "index.md"


def expand(nav: list[Any], pages: list[str]) -> list[Any]:
    """The navigation with ``folder/*`` replaced by the folder's pages, and ``*`` by the rest.

    The rest are the pages of the top folder that stand nowhere, so that a new one needs no entry.
    """
    named = set(_named(nav))
    patterns = [entry for entry in named if "*" in entry]
    free = [page for page in pages if page not in named]

    def of(pattern: str) -> list[str]:
        found = [page for page in free if fnmatch(page, pattern)]
        deeper = "/" in pattern
        return [page for page in found if deeper or "/" not in page]

    def walk(entries: list[Any]) -> list[Any]:
        out: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict):
                ((title, value),) = entry.items()
                out.append({title: walk(value) if isinstance(value, list) else value})
            elif entry in patterns:
                out += of(entry)
            else:
                out.append(entry)
        return out

    return walk(nav)


def _named(entries: list[Any]) -> list[str]:
    names: list[str] = []
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        names += _named(value) if isinstance(value, list) else [value]
    return names
