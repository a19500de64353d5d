"""Reader of EchoNet-Dynamic (Ouyang et al., Nature 2020): ED moving, ES fixed, LV as label 1.

The layout is the published one: ``FileList.csv`` (one line a video, with FileName, Split, EF and
others), ``VolumeTracings.csv`` (outlines of the left ventricle on two frames of each video) and
``Videos/NAME.avi`` (Motion JPEG, 112 × 112). Frames and masks are made when a case is loaded:
nothing is written, and a case names the video, the frame and the table of tracings.
"""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import cast

from regtool.data.cases import SPLITS, Case, PairCase, Split, is_file_name
from regtool.data.tracings import Tracings, read_tracings
from regtool.errors import InputError
from regtool.paths import expanded

log = logging.getLogger("regtool.data")

FILE_LIST, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
REQUIRED = ("FileName", "Split")


def read_echonet(path: str | Path) -> list[PairCase]:
    """One pair a video, in the order of ``FileList.csv``, with the splits of its column Split.

    ED is the frame with the largest outline, ES that with the smallest. Videos without two traced
    frames (a few of the published ones) are left out, with a warning that counts them.
    Raises InputError for a missing or malformed table, or a video that is listed but absent.
    """
    root = expanded(path)
    for name, exists in (
        (FILE_LIST, Path.is_file),
        (TRACINGS, Path.is_file),
        (VIDEOS, Path.is_dir),
    ):
        if not exists(root / name):
            raise InputError(
                f"{root / name}: not there (echonet:FOLDER is the folder that holds {FILE_LIST}, "
                f"{TRACINGS} and {VIDEOS})"
            )
    listed = _listed(root / FILE_LIST)
    tracings = read_tracings(root / TRACINGS)
    present = _names(root / VIDEOS)
    pairs = [
        _pair(root, name, split, phases)
        for name, split in listed.items()
        if (phases := _phases(root, name, tracings, present)) is not None
    ]
    if left_out := len(listed) - len(pairs):
        log.warning(
            "%s: %d of %d videos have no two traced frames and are left out",
            root / TRACINGS,
            left_out,
            len(listed),
        )
    return pairs


def _pair(root: Path, name: str, split: Split, phases: tuple[int, int]) -> PairCase:
    video, table = root / VIDEOS / f"{name}.avi", root / TRACINGS
    moving, fixed = (Case(video, table, modality="us", frame=frame) for frame in phases)
    return PairCase(name, fixed, moving, split, name)


def _phases(root: Path, name: str, tracings: Tracings, present: set[str]) -> tuple[int, int] | None:
    if f"{name}.avi" not in present:
        raise InputError(
            f"{root / VIDEOS / name}.avi: no such video, but {FILE_LIST} lists it; for a part of "
            f"the data, keep only its lines in {FILE_LIST}"
        )
    return tracings.extremes(name)


def _names(folder: Path) -> set[str]:
    try:
        return {file.name for file in folder.iterdir()}
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _listed(table: Path) -> dict[str, Split]:
    """The videos' names, without ``.avi``, and their splits."""
    found: dict[str, Split] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or ()
            for column in REQUIRED:
                if column not in header:
                    raise InputError(f"{table}: no column {column!r} in its first line")
            for row in reader:
                where = f"{table} line {reader.line_num}"
                name = (row["FileName"] or "").strip().removesuffix(".avi")
                if not is_file_name(name):
                    raise InputError(f"{where}: {name!r} is not the name of a video")
                if name in found:
                    raise InputError(f"{where}: {name} is listed a second time")
                split = (row["Split"] or "").strip().lower()
                if split not in SPLITS:
                    raise InputError(f"{where}: Split is {split!r}, none of {', '.join(SPLITS)}")
                found[name] = cast(Split, split)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not readable as a CSV table ({error})") from None
    if not found:
        raise InputError(f"{table}: lists no videos")
    return found
