"""Finds the data readers of other distributions, and reads with one of them under guard.

A reader is trusted as little as a method: whatever it raises, returns or prints, a user gets pairs
or one line, and standard output stays clean. Only the reader that is asked for is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from regtool.data.cases import SPLITS, Case, PairCase, is_file_name
from regtool.errors import InputError, PluginError, RegtoolError, UsageError
from regtool.paths import expanded, is_file
from regtool.plugins.charge import reason_and_place
from regtool.plugins.discovery import Entry, Failure, available, installed, only_one, strict
from regtool.plugins.loading import blamed, check_identity, quiet_stdout
from regtool.plugins.reader import Reader

GROUP = "regtool.readers"


def names() -> list[str]:
    """The names of the installed readers, sorted, each once; from metadata only."""
    return sorted({entry.name for entry in available(GROUP)})


def left_out(name: str) -> bool:
    """Whether a reader is installed and ``REGTOOL_LOAD_PLUGINS`` leaves it out."""
    return name not in names() and any(entry.name == name for entry in installed(GROUP))


def find(name: str, own: Iterable[str]) -> Entry:
    """The entry of an installed reader, without importing it.

    Raises PluginError where several distributions claim the name, or where it is one of ``own``,
    the readers that come with regtool.
    """
    entry = only_one([entry for entry in available(GROUP) if entry.name == name], "reader")
    if name in own:
        raise PluginError(
            f"reader '{name}' is regtool's own and is claimed by {entry.owner} ({entry.value}), "
            "too; uninstall that, or leave it out with REGTOOL_LOAD_PLUGINS"
        )
    return entry


def load(name: str, own: Iterable[str] = ()) -> Reader[Any]:
    """Import one reader and return its checked description. Raises PluginError."""
    entry = find(name, own)
    with blamed(f"reader '{name}' of {entry.owner}", entry.value, strict=strict()):
        return _checked(EntryPoint(name, entry.value, GROUP).load(), name)


def failures(own: Iterable[str]) -> list[Failure]:
    """Load every installed reader; return those that do not load, with the reason.

    With ``REGTOOL_STRICT_PLUGINS=1`` the first failure is raised instead.
    """
    found: list[Failure] = []
    for name in names():
        try:
            load(name, own)
        except PluginError as error:
            if strict():
                raise
            found.append(Failure(name, error))
    return found


def read(
    name: str,
    rest: str,
    own: Iterable[str] = (),
    files: bool = True,
    option: str = "--data",
) -> list[PairCase]:
    """The pairs of ``NAME:PLACE?setting=value&…``, where ``rest`` is what follows the colon.

    With ``files`` off it is left to whoever reads them whether they are there; ``option`` is what
    NAME followed, for messages. Raises UsageError
    for a setting, InputError for what the reader cannot read, PluginError where it breaks the
    contract; any other exception of the reader is the cause of a PluginError.
    """
    reader = load(name, own)
    label = f"reader '{name}' of {find(name, own).owner}"
    place, _, query = rest.partition("?")
    spec = f"{option} {name}:{place}"
    settings = _settings(reader, query, spec)
    try:
        with quiet_stdout():
            pairs = _pairs(reader.read(expanded(place), settings))
    except (RegtoolError, MemoryError, KeyboardInterrupt) as error:
        if isinstance(error, PluginError):
            raise PluginError(f"{label}: {error}") from error
        raise
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        raise InputError(f"{spec}: {file}{error.strerror or error}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{label}, at {place}: {reason_and_place(error)}") from error
    if files:
        _check_files(pairs, spec)
    return pairs


def _checked(reader: object, name: str) -> Reader[Any]:
    """The description, or PluginError where it breaks the contract visibly."""
    from regtool.plugins.options import Options

    if not isinstance(reader, Reader):
        raise PluginError(f"its entry point names a {type(reader).__name__}, not a Reader")
    check_identity(reader, name, "reader")
    if len(name) < 2:  # the C of a Windows path is no reader
        raise PluginError(f"the name '{name}' is too short; use a word")
    if not callable(reader.read):
        raise PluginError(f"read is a {type(reader.read).__name__}, not a function")
    if not (isinstance(reader.settings, type) and issubclass(reader.settings, Options)):
        raise PluginError(f"settings is {reader.settings!r}, not a class derived from Options")
    return reader


def _settings(reader: Reader[Any], query: str, spec: str) -> Any:
    from regtool.plugins.options import parse_options

    values: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{spec}: write the setting {part!r} as name=value")
        values[key.strip()] = value.strip()
    try:
        return parse_options(reader.settings, values, reader.name, kind="reader")
    except UsageError as error:
        raise UsageError(f"{spec}: {error}") from error


def _pairs(answer: object) -> list[PairCase]:
    """What a reader returned as a list. Raises PluginError where it breaks the contract."""
    if not isinstance(answer, Iterable):
        raise PluginError(f"read returned a {type(answer).__name__}, not pairs")
    pairs: list[PairCase] = []
    seen: set[str] = set()
    splits: dict[str, str] = {}
    for number, pair in enumerate(answer, start=1):
        if not isinstance(pair, PairCase):
            raise PluginError(f"pair {number} is a {type(pair).__name__}, not a PairCase")
        for problem in _problems(pair):
            raise PluginError(f"pair {number} ({pair.name!r}): {problem}")
        if pair.name.casefold() in seen:
            raise PluginError(f"two pairs have the name {pair.name!r} (case does not count)")
        seen.add(pair.name.casefold())
        first = splits.setdefault(pair.subject, pair.split)
        if first != pair.split:
            raise PluginError(
                f"pair {number} ({pair.name!r}): its subject {pair.subject!r} is {pair.split} here "
                f"and {first} before; one subject belongs to one split"
            )
        pairs.append(pair)
    return pairs


def _problems(pair: PairCase) -> Iterable[str]:
    if not isinstance(pair.name, str) or not is_file_name(pair.name):
        yield "its name cannot be part of a file name"
    if not isinstance(pair.subject, str) or not pair.subject:
        yield f"its subject is {pair.subject!r}, not a name"
    if pair.split not in SPLITS:
        yield f"its split is {pair.split!r}, none of {', '.join(SPLITS)}"
    for role in ("fixed", "moving"):
        case = getattr(pair, role)
        if not isinstance(case, Case):
            yield f"{role} is a {type(case).__name__}, not a Case"
            continue
        if not isinstance(case.image, Path):
            yield f"{role}.image is a {type(case.image).__name__}, not a Path"
        for part in ("labels", "mask", "points"):
            if not isinstance(getattr(case, part), Path | None):
                yield f"{role}.{part} is a {type(getattr(case, part)).__name__}, not a Path"
        if case.frame is not None and (not isinstance(case.frame, int) or case.frame < 0):
            yield f"{role}.frame is {case.frame!r}, not a whole number from 0"
    if not isinstance(pair.field, Path | None):
        yield f"field is a {type(pair.field).__name__}, not a Path"


def _check_files(pairs: list[PairCase], spec: str) -> None:
    """Raise InputError for the first file of a pair that is not there."""
    for pair in pairs:
        sides = (pair.fixed, pair.moving)
        named = [path for c in sides for path in (c.image, c.labels, c.mask, c.points) if path]
        for path in [*named, *([pair.field] if pair.field else [])]:
            if not is_file(path):
                raise InputError(f"{spec}: no such file: {path} (of the pair {pair.name!r})")
