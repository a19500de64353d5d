"""Two records side by side: what was asked and measured, and how far the files are apart."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.plain import flat
from regtool.record import is_there, output_path, read_record, sha256
from regtool.spatial.grid import Grid

NOT_COMPARED = frozenset({"schema", "kind", "date", "command", "seconds", "outputs"})
"""Parts of a record that say nothing of the result, or are compared as files."""

IMAGES = (".nii.gz", ".nii")
TRANSFORMS = (".mat", ".h5")


@dataclass(frozen=True)
class Fact:
    """An entry in which two records differ; None where one has no such entry."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class File:
    """An output of both registrations, or of one.

    ``state``: ``identical`` (the same bytes, or the same content in another wrapping), ``differs``,
    ``first only``, ``second only``, ``missing`` (the first record's file is gone). For images,
    fields (mm) and transforms that differ on one grid: ``largest`` difference of a value and the
    ``share`` of values that differ at all.
    """

    role: str
    state: str
    largest: float | None = None
    share: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """What differs between two registrations."""

    facts: tuple[Fact, ...]
    files: tuple[File, ...]
    changed: tuple[str, ...] = ()
    """Sentences about files that are not those of their records any more."""

    @property
    def identical(self) -> bool:
        """Whether every output of the one is that of the other."""
        return all(file.state == "identical" for file in self.files)

    @property
    def missing(self) -> tuple[str, ...]:
        """The outputs of the first record that are gone, and so could not be compared."""
        return tuple(file.role for file in self.files if file.state == "missing")

    @property
    def rest_identical(self) -> bool:
        """Whether every output is identical but those that are missing."""
        return all(file.state in ("identical", "missing") for file in self.files)


def compare(first: str | Path, second: str | Path, lost: bool = False) -> Comparison:
    """Compare two records and the files they list beside them.

    Raises InputError for what is no record, and for files that are missing or unreadable; with
    ``lost`` files of the first record may be so.
    """
    a, b = read_record(first), read_record(second)
    changed: list[str] = []
    files = tuple(_files(Path(first), a, Path(second), b, lost, changed))
    return Comparison(tuple(_facts(a, b)), files, tuple(changed))


def _facts(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Fact]:
    first, second = _entries(a), _entries(b)
    same = _same_weights(first, second)
    for name in dict.fromkeys([*first, *second]):
        if first.get(name) != second.get(name) and name not in same:
            yield Fact(name, first.get(name), second.get(name))


def _entries(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says, its files by their absolute paths, however they were given.

    The request has them; elsewhere a record repeats what was typed, which is relative to a folder
    that nobody knows any more.
    """
    entries = flat({k: v for k, v in record.items() if k not in NOT_COMPARED})
    found = {name: value for name, value in entries if value != {}}
    asked, companions = record.get("request"), record.get("companions")
    if not isinstance(asked, Mapping):
        return found
    others = companions if isinstance(companions, Mapping) else ()
    for name in ("fixed", "moving", "initial", *others):
        if not isinstance(asked.get(name), str):
            continue
        path = os.path.normpath(asked[name])
        own = "initial" if name == "initial" else f"{name}.path"
        for key in (f"request.{name}", own, f"companions.{name}"):
            typed = found.get(key)
            if isinstance(typed, str):
                found[key] = path
                found["warnings"] = _retold(found.get("warnings"), typed, path)
    return found


def _retold(warnings: Any, typed: str, path: str) -> Any:
    """Warnings with the absolute path of the file that they begin with."""
    if not isinstance(warnings, list):
        return warnings
    return [
        f"{path}{text.removeprefix(typed)}"
        if isinstance(text, str) and text.startswith(f"{typed}:")
        else text
        for text in warnings
    ]


def _same_weights(first: Mapping[str, Any], second: Mapping[str, Any]) -> frozenset[str]:
    """The entries that only say where weights were found, if they were the same weights."""
    digest, source = "weights.sha256", "weights.source"
    if first.get(digest) is None or first[digest] != second.get(digest):
        return frozenset()
    if first.get(source) == second.get(source) == "path":
        return frozenset({"weights.path", "request.weights"})
    return frozenset({"weights.path"})


def _files(
    first: Path,
    a: Mapping[str, Any],
    second: Path,
    b: Mapping[str, Any],
    lost: bool,
    changed: list[str],
) -> Iterator[File]:
    roles = [list(r["outputs"]) if isinstance(r.get("outputs"), Mapping) else [] for r in (a, b)]
    for role in dict.fromkeys([*roles[0], *roles[1]]):
        if role not in roles[1]:
            yield File(role, "first only")
        elif role not in roles[0]:
            yield File(role, "second only")
        elif lost and not is_there(first, a, role):
            same = a["outputs"][role].get("sha256") == sha256(output_path(second, b, role))
            yield File(role, "missing", why="made again, with the recorded hash" if same else "")
        else:
            one, digest = _hashed(first, a, role, changed)
            other, again = _hashed(second, b, role, changed)
            if digest == again:
                yield File(role, "identical")
                continue
            try:
                yield _file(role, one, other)
            except InputError as error:
                if not lost:
                    raise
                yield File(role, "differs", why=str(error))


def _hashed(
    path: Path, record: Mapping[str, Any], role: str, changed: list[str]
) -> tuple[Path, str]:
    """An output and its hash now; ``changed`` grows where that is not the recorded one."""
    file = output_path(path, record, role)
    digest = sha256(file)
    if record["outputs"][role].get("sha256") not in (None, digest):
        changed.append(f"{file}: has changed since {path} was written")
    return file, digest


def _file(role: str, first: Path, second: Path) -> File:
    if role.endswith(IMAGES):
        (x, grid), (y, other) = _image(first), _image(second)
        if x.shape != y.shape or grid != other:
            return File(role, "differs", why="other grids")
    elif role.endswith(TRANSFORMS):
        x, y = _transform(first), _transform(second)
        if x.shape != y.shape:
            return File(role, "differs", why="other kinds of transform")
    else:
        return File(role, "differs", why="other bytes")
    apart = np.abs(x - y)
    apart[np.isnan(x) & np.isnan(y)] = 0
    if not apart.any():
        return File(role, "identical")
    return File(role, "differs", float(np.nanmax(apart)), float(np.mean(apart != 0)))


def _image(path: Path) -> tuple[NDArray[np.float64], Grid]:
    from regtool.imaging.reading import read_image

    image = read_image(path, ("scalar", "rgb", "series", "vector"))
    return image.array.astype(np.float64), image.grid


def _transform(path: Path) -> NDArray[np.float64]:
    """All numbers of a transform, those of the grids of fields too."""
    from regtool.imaging.transforms import read_transforms

    numbers: list[Any] = []
    for part in read_transforms(path):
        if isinstance(part, tuple):
            field, grid = part
            numbers += [grid.index_to_world.ravel(), field.ravel()]
        else:
            numbers.append(part.ravel())
    return np.concatenate(numbers, dtype=np.float64)
