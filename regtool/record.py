"""The JSON record of a registration: what was done, with what, and what came out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from regtool import __version__
from regtool.errors import InputError
from regtool.imaging.volume import Volume
from regtool.paths import expanded, is_file

SCHEMA = 1
SUFFIX = "regtool.json"
WARPED, FIELD, AFFINE = "Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat"
INVERSE, INVERSE_WARPED = "1InverseWarp.nii.gz", "InverseWarped.nii.gz"
LABELS, COMPOSITE = "WarpedLabels.nii.gz", "Composite.h5"
LARGEST = 2**26
"""Bytes of a record; a thousandth of that is much."""
MAPS = "fixed points to moving points (resampling)"


@cache
def software() -> dict[str, str]:
    """Versions of what computed the result."""
    return {
        "regtool": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "SimpleITK", "numpy")},
    }


def describe_image(volume: Volume) -> dict[str, Any]:
    """Path, hash, grid and header facts of an input image."""
    header = volume.header
    return {
        "path": None if volume.path is None else str(volume.path),
        "sha256": None if volume.path is None else sha256(volume.path),
        "size": list(volume.grid.size),
        "spacing": list(volume.grid.spacing),
        "direction": list(volume.grid.direction),
        "origin": list(volume.grid.origin),
        "type": str(volume.dtype),
        "orientation_from": header.authority,
        "sform_and_qform_agree": header.agree,
        "nonfinite": header.nonfinite,
    }


def sha256(path: Path) -> str:
    """SHA-256 of a file. Raises InputError when it cannot be read."""
    if not is_file(path):  # a device would never end
        raise InputError(f"{path}: no such file")
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def is_record(path: str | Path) -> bool:
    """Whether a path names a record rather than an image or a transform."""
    return str(path).lower().endswith(".json")


def records_below(folder: str | Path) -> list[Path]:
    """Files named like records in a folder and below, in the order of their paths.

    Not those in hidden folders, where files wait until they are complete.
    """
    start = expanded(folder)
    return [
        path
        for path in sorted(start.rglob(f"*{SUFFIX}"))
        if not any(part.startswith(".") for part in path.relative_to(start).parts[:-1])
    ]


def read_record(path: str | Path) -> dict[str, Any]:
    """Read a record and check its schema.

    Raises InputError when the file is missing, is no record, or comes from a newer regtool.
    """
    file = expanded(path)
    if not is_file(file):
        raise InputError(f"{file}: no such file")
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file}: too large for a record of 'regtool register'")
        content = json.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a record of 'regtool register'") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not a readable record ({error})") from error
    if not isinstance(content, dict) or content.get("kind") != "registration":
        raise InputError(f"{file}: not a record of 'regtool register'")
    if content.get("schema") != SCHEMA:
        raise InputError(
            f"{file}: schema {content.get('schema')!r}, this regtool reads {SCHEMA}; update regtool"
        )
    return content


def fill_of(record: Mapping[str, Any]) -> float:
    """The intensity of a record's warped images beyond the image they were read from."""
    request = record.get("request")
    value = request.get("fill") if isinstance(request, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def output_path(record_path: str | Path, record: Mapping[str, Any], role: str) -> Path:
    """The file that a record lists for a role such as ``1Warp.nii.gz``, beside the record.

    Only plain file names count, so that a record can be moved with its files and cannot point
    elsewhere. Raises InputError when the record lists none or the file is gone.
    """
    path = _listed(record_path, record, role)
    if not is_file(path):
        raise InputError(f"{path}: missing, though {record_path} lists it")
    return path


def is_there(record_path: str | Path, record: Mapping[str, Any], role: str) -> bool:
    """Whether the file that a record lists for a role still is. InputError if it lists none."""
    return is_file(_listed(record_path, record, role))


def _listed(record_path: str | Path, record: Mapping[str, Any], role: str) -> Path:
    outputs = record.get("outputs")
    entry = outputs.get(role) if isinstance(outputs, Mapping) else None
    name = entry.get("file") if isinstance(entry, Mapping) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise InputError(f"{record_path}: lists no {role}")
    return expanded(record_path).parent / name


def check_unchanged(path: Path, digest: Any, record_path: str | Path) -> Path:
    """The path of a file that still has the SHA-256 of its record (None: not known).

    Raises InputError for another file.
    """
    if digest is not None and sha256(path) != digest:
        raise InputError(f"{path}: has changed since {record_path} was written; register again")
    return path


def recorded_output(record_path: str | Path, record: Mapping[str, Any], role: str) -> Path:
    """As ``output_path``, if the file still has the recorded hash; otherwise InputError."""
    path = output_path(record_path, record, role)
    return check_unchanged(path, record["outputs"][role].get("sha256"), record_path)


def input_path(
    record_path: str | Path,
    record: Mapping[str, Any],
    name: str,
    remedy: str = "put it beside the record",
) -> Path | None:
    """An input that a record names: ``fixed``, ``moving``, or a companion (``fixed_labels`` …).

    Where it was when it was registered, as it was typed then, or of its name beside the record,
    whichever is there; None when the record names no file. Whether it is still the same file is for
    the caller to check. Raises InputError, which ends with ``remedy``, when it is in none of these
    places.
    """
    own = name in ("fixed", "moving")
    entry, asked = record.get(name if own else "companions"), record.get("request")
    typed = entry.get("path" if own else name) if isinstance(entry, Mapping) else None
    if typed is None:
        return None
    if not isinstance(typed, str):
        raise InputError(f"{record_path}: what it names as {name} is no file name")
    absolute = asked.get(name) if isinstance(asked, Mapping) else None
    beside = expanded(record_path).parent
    places = [expanded(typed), beside / typed, beside / Path(typed).name]
    if isinstance(absolute, str):
        places.insert(0, Path(absolute))
    for place in places:
        if is_file(place):
            return place
    raise InputError(f"{typed}: no such file, though {record_path} names it; {remedy}")


def files_of(record_path: str | Path) -> list[Path]:
    """A record and all files that it names and that are there: what no other output may replace.

    Of a record that cannot be read, itself alone.
    """
    found = [expanded(record_path)]
    try:
        record = read_record(record_path)
    except InputError:
        return found
    outputs, companions = record.get("outputs"), record.get("companions")
    for role in outputs if isinstance(outputs, Mapping) else ():
        with contextlib.suppress(InputError):
            found.append(output_path(record_path, record, role))
    for name in ("fixed", "moving", *(companions if isinstance(companions, Mapping) else ())):
        with contextlib.suppress(InputError):
            path = input_path(record_path, record, name)
            found += [] if path is None else [path]
    return found
