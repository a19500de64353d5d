"""Finds installed methods from package metadata and loads them one entry point at a time.

Listing reads metadata only. Loading a method imports that method's plugin and no other, so a broken
plugin cannot break another method. ``regtool.plugins.readers`` finds data readers in the same way.
Environment variables: ``REGTOOL_LOAD_PLUGINS`` limits what is
seen to a comma list of methods, readers or distributions (empty: none),
``REGTOOL_STRICT_PLUGINS=1`` turns isolation off for plugin authors.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from regtool.errors import PluginError, UsageError
from regtool.plugins.description import Method
from regtool.plugins.loading import load_entry, resolve_import

__all__ = [
    "GROUP",
    "Entry",
    "Failure",
    "available",
    "find",
    "installed",
    "load",
    "load_all",
    "names",
    "only_one",
    "resolve_import",
    "strict",
    "warn",
]

GROUP = "regtool.methods"

log = logging.getLogger("regtool.plugins")


@dataclass(frozen=True, order=True)
class Entry:
    """One method or reader as package metadata names it; nothing is imported to know this."""

    name: str
    value: str
    distribution: str
    version: str

    @property
    def owner(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Failure:
    """A method or reader that is installed but could not be loaded."""

    name: str
    error: PluginError


def available(group: str = GROUP) -> list[Entry]:
    """Return the installed methods, or another group's entries, by name, from metadata only.

    A distribution seen twice (a symlinked folder, an editable install beside its source tree)
    counts once. A name that two distributions claim appears once for each of them.
    """
    chosen = _limit()
    found = {entry for entry in installed(group) if chosen is None or _listed(entry, chosen)}
    return sorted(found)


def names() -> list[str]:
    """Return the names of the installed methods, sorted, each once."""
    return sorted({entry.name for entry in available()})


def find(name: str) -> Entry:
    """Return the entry of one method without importing it.

    Raises UsageError for an unknown name and PluginError when several distributions claim it.
    """
    entries = [entry for entry in available() if entry.name == name]
    if not entries:
        raise UsageError(_unknown(name))
    return only_one(entries, "method")


def load(name: str) -> Method:
    """Import the plugin of one method and return its checked description.

    Raises UsageError for an unknown name, PluginError for a plugin that is broken, clashing or made
    for a newer regtool; the original exception is the cause.
    """
    entry = find(name)
    return load_entry(entry.name, entry.value, entry.owner, group=GROUP, strict=strict())


def load_all() -> tuple[list[Method], list[Failure]]:
    """Load every installed method; return those that work, sorted by name, and the failures.

    With ``REGTOOL_STRICT_PLUGINS=1`` the first failure is raised instead.
    """
    methods: list[Method] = []
    failures: list[Failure] = []
    for name in names():
        try:
            methods.append(load(name))
        except PluginError as error:
            if strict():
                raise
            failures.append(Failure(name, error))
    return methods, failures


def warn(failures: Iterable[Failure]) -> None:
    """Log one warning line for each failure."""
    for failure in failures:
        log.warning("skipped: %s", failure.error)


def strict() -> bool:
    """Tell whether ``REGTOOL_STRICT_PLUGINS`` asks for failures instead of warnings."""
    return os.environ.get("REGTOOL_STRICT_PLUGINS", "").lower() not in {"", "0", "false", "no"}


def only_one(entries: list[Entry], kind: str) -> Entry:
    """Return the entry of a name. Raises PluginError where several distributions claim it."""
    if len(entries) > 1:
        owners = " and ".join(f"{entry.owner} ({entry.value})" for entry in entries)
        raise PluginError(
            f"{kind} '{entries[0].name}' is claimed by {owners}; uninstall one of them, or choose "
            "with REGTOOL_LOAD_PLUGINS"
        )
    return entries[0]


def normalised(name: str) -> str:
    """Return a distribution's name in the one spelling that packaging tools compare."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(group: str = GROUP) -> list[Entry]:
    """Every entry of a group, the first distribution of a name on the path winning.

    Those that ``REGTOOL_LOAD_PLUGINS`` leaves out are among them.
    """
    entries: list[Entry] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        # Unrelated packages are never parsed: one damaged file elsewhere must not stop regtool.
        if group not in (distribution.read_text("entry_points.txt") or ""):
            continue
        title = _fact(distribution, "Name") or "an unnamed distribution"
        if normalised(title) in seen:
            continue
        seen.add(normalised(title))
        version = _fact(distribution, "Version") or "of unknown version"
        pairs = _pairs(distribution, title, group)
        entries += [Entry(name, value, title, version) for name, value in pairs]
    return entries


def _fact(distribution: metadata.Distribution, key: str) -> str | None:
    """One line of METADATA, or None where the file or the line is missing."""
    try:
        return distribution.metadata[key]
    except (KeyError, TypeError, OSError):  # what a missing one gives depends on Python's version
        return None


def _pairs(distribution: metadata.Distribution, title: str, group: str) -> list[tuple[str, str]]:
    try:
        points = distribution.entry_points
    except Exception as error:  # whatever the parser makes of a damaged file
        log.warning("skipped: the entry points of %s are unreadable: %s", title, error)
        return []
    return [(point.name, point.value) for point in points if point.group == group]


def _limit() -> set[str] | None:
    text = os.environ.get("REGTOOL_LOAD_PLUGINS")
    if text is None:
        return None
    return {normalised(part.strip()) for part in text.split(",") if part.strip()}


def _listed(entry: Entry, chosen: set[str]) -> bool:
    return normalised(entry.name) in chosen or normalised(entry.distribution) in chosen


def _unknown(name: str) -> str:
    """The sentence for a method that is not there, with the nearest name that is, or all names."""
    if any(entry.name == name for entry in installed()):
        return f"method '{name}' is installed but left out by REGTOOL_LOAD_PLUGINS; add it there"
    known = names()
    if not known:
        return f"unknown method '{name}': no method is installed; reinstall regtool"
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if not near:
        return f"unknown method '{name}'; installed are {', '.join(known)}"
    return (
        f"unknown method '{name}'; did you mean '{near[0]}'? "
        "`regtool methods` lists the installed ones"
    )
