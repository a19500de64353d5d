"""Reader of Learn2Reg's data sets (Hering et al., IEEE TMI 2023): a folder with NAME_dataset.json.

The JSON lists ``training`` (scans with ``image`` and, where there are, ``label``, ``mask`` and
``keypoints``), ``training_paired_images``, ``registration_val`` and ``registration_test`` (pairs of
``fixed`` and ``moving``), with paths such as ``./imagesTr/OASIS_0001_0000.nii.gz``; the last four
digits are the number of the modality. Keypoints are voxels of their image, counted from 0, in a
table without a header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from regtool.data.cases import Case, PairCase, Split, assign_splits, is_file_name
from regtool.data.settings import NIFTI, SPLIT, Setting, chosen, parse_spec
from regtool.data.unpaired import (
    COUNT,
    SEED,
    VAL_COUNT,
    Scan,
    across,
    among,
    couple,
    first,
    ranked_pairs,
)
from regtool.errors import InputError
from regtool.imaging.reading import check_file

LARGEST = 2**26
"""Bytes of a JSON file that is read; that of 414 scans has about 100 KB."""
CHANNEL = re.compile(r"_(\d{4})$")
COMPANIONS = {"label": "labels", "mask": "masks", "keypoints": "keypoints"}
"""Name in the JSON, and start of the folder that stands for ``images`` in the path."""
MODALITIES = {"mr": "mr", "mri": "mr", "t1": "mr", "t2": "mr", "ct": "ct", "cbct": "ct", "us": "us"}
SETTINGS = {
    "n": COUNT,
    "val": VAL_COUNT,
    "seed": SEED,
    "labels": Setting("yes", ("yes", "none"), help="attach label maps where they are there"),
    "masks": Setting("none", ("yes", "none"), help="attach masks where they are there"),
    "points": Setting("yes", ("yes", "none"), help="attach keypoints where they are there"),
    "split": SPLIT,
    "nifti": NIFTI,
}


@dataclass(frozen=True)
class _Listing:
    """The JSON file, what it says, and which companions of an image are wanted."""

    path: Path
    content: dict[str, Any]
    wanted: Mapping[str, bool]

    @property
    def root(self) -> Path:
        return self.path.parent


def read_learn2reg(spec: str | Path, reader: str = "learn2reg") -> list[PairCase]:
    """Pairs of ``FOLDER[?n=100&val=30&seed=0&labels=none&masks=yes&points=none&split=val]``.

    FOLDER holds one ``*dataset.json`` (or is that file). Pairs of ``training_paired_images`` that
    are in no other list train; where there are none, ``n`` of the pairs of those ``training`` scans
    that take part in no validation or test pair (of a tenth of them, if nothing is listed to
    validate, with the others). ``registration_val`` and ``registration_test`` are ``val`` and
    ``test``, as far as their images are there. Labels and keypoints are attached where they are
    there, masks only with ``masks=yes``.
    Raises UsageError for an unknown setting, InputError for missing or malformed files.
    """
    root, settings = parse_spec(reader, spec, SETTINGS)
    wanted = {
        "label": settings["labels"] == "yes",
        "mask": settings["masks"] == "yes",
        "keypoints": settings["points"] == "yes",
    }
    listing = _read(root, wanted)
    scans = _scans(listing)
    val = _pairs(listing, "registration_val", scans, "val")
    test = _pairs(listing, "registration_test", scans, "test")
    held_out = {(p.fixed.image, p.moving.image) for p in (*val, *test)}
    paired = [
        pair
        for pair in _pairs(listing, "training_paired_images", scans, "train")
        if (pair.fixed.image, pair.moving.image) not in held_out
    ]
    count, val_count, seed = settings["n"], settings["val"], int(settings["seed"])
    if paired:
        train = list(first(ranked_pairs(paired, seed), count))
    else:
        seen = {image for ends in held_out for image in ends}
        free = [scan for scan in scans.values() if scan.case.image not in seen]
        if val or test:
            train = among(free, count, seed, "train")
        else:
            return chosen(_drawn(free, count, val_count, seed), settings)
    return chosen([*train, *first(val, val_count), *test], settings)


def _drawn(scans: list[Scan], count: str | int, val_count: str | int, seed: int) -> list[PairCase]:
    splits = assign_splits(scan.subject for scan in scans)
    train = [scan for scan in scans if splits[scan.subject] == "train"]
    val = [scan for scan in scans if splits[scan.subject] == "val"]
    return [*among(train, count, seed, "train"), *across(val, train, val_count, seed, "val")]


def find_listing(root: Path) -> list[Path]:
    """The files ``*dataset.json`` of a folder."""
    return sorted(root.glob("*dataset.json")) if root.is_dir() else []


def _read(root: Path, wanted: Mapping[str, bool]) -> _Listing:
    found = find_listing(root) if root.is_dir() else [root]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{root}: expected one file such as OASIS_dataset.json, found {names}; name the file "
            "where there are several"
        )
    path = found[0]
    try:
        if check_file(path).stat().st_size > LARGEST:
            raise InputError(f"{path}: larger than {LARGEST // 2**20} MiB; is it a listing?")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{path}: not readable as JSON ({why})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a listing of Learn2Reg: expected an object with 'training'")
    return _Listing(path, content, wanted)


def _entries(listing: _Listing, key: str) -> list[dict[str, Any]]:
    entries = listing.content.get(key, [])
    if not isinstance(entries, list):
        raise InputError(f"{listing.path}: {key} is not a list")
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, str):
            entries[number - 1] = {"image": entry}
        elif not isinstance(entry, dict):
            raise InputError(f"{listing.path}: {key}, entry {number}: expected an object")
    return entries


def _scans(listing: _Listing) -> dict[Path, Scan]:
    """The scans of ``training`` by the paths of their images."""
    scans: dict[Path, Scan] = {}
    for number, entry in enumerate(_entries(listing, "training"), 1):
        where = f"{listing.path}: training, entry {number}"
        scan = _scan(listing, where, _path(listing, where, entry.get("image")), entry)
        if scan.case.image in scans:
            raise InputError(f"{where}: {scan.name} is listed a second time")
        if not scan.case.image.is_file():
            raise InputError(f"{where}: no such file: {scan.case.image}")
        scans[scan.case.image] = scan
    return scans


def _pairs(listing: _Listing, key: str, scans: Mapping[Path, Scan], split: Split) -> list[PairCase]:
    pairs: dict[str, PairCase] = {}
    for number, entry in enumerate(_entries(listing, key), 1):
        where = f"{listing.path}: {key}, entry {number}"
        ends = []
        for role in ("fixed", "moving"):
            path = _path(listing, where, entry.get(role))
            ends.append(scans[path] if path in scans else _scan(listing, where, path, {}))
        missing = [scan.case.image for scan in ends if not scan.case.image.is_file()]
        if missing and split != "test":  # test images are often not given out
            raise InputError(f"{where}: no such file: {missing[0]}")
        if not missing:
            pair = couple(ends[0], ends[1], split)
            pairs.setdefault(pair.name, pair)
    return list(pairs.values())


def _scan(listing: _Listing, where: str, image: Path, entry: Mapping[str, Any]) -> Scan:
    name = image.name.removesuffix(".gz").removesuffix(".nii")
    if not is_file_name(name):
        raise InputError(f"{where}: {name!r} is not the name of an image")
    own = {
        part: _companion(listing, where, image, part, entry)
        for part, wanted in listing.wanted.items()
        if wanted
    }
    points = own.get("keypoints")
    case = Case(
        image, own.get("label"), own.get("mask"), points, _modality(listing, name),
        counted_from=None if points is None else 0,
    )  # fmt: skip
    return Scan(name, case, "train", CHANNEL.sub("", name))


def _companion(
    listing: _Listing, where: str, image: Path, part: str, entry: Mapping[str, Any]
) -> Path | None:
    """What the entry names, or the file of the same name in labelsTr, masksTr or keypointsTr."""
    if entry.get(part) is not None:
        path = _path(listing, where, entry[part])
        return path if path.is_file() else None
    folder = image.parent.name
    if not folder.startswith("images"):
        return None
    place = image.parent.parent / folder.replace("images", COMPANIONS[part], 1)
    name = image.name.removesuffix(".gz").removesuffix(".nii")
    path = place / (f"{name}.csv" if part == "keypoints" else image.name)
    return path if path.is_file() else None


def _path(listing: _Listing, where: str, value: Any) -> Path:
    """The file that the JSON names; it must lie in the folder of the JSON."""
    if not isinstance(value, str) or not value or "\0" in value or not value.isprintable():
        raise InputError(f"{where}: expected the path of a file, found {str(value)[:60]!r}")
    relative = PurePosixPath(value.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{where}: {value[:100]!r} lies outside {listing.root}")
    return listing.root / relative


def _modality(listing: _Listing, name: str) -> str | None:
    names = listing.content.get("modality")
    match = CHANNEL.search(name)
    if not isinstance(names, dict) or match is None:
        return None
    found = names.get(str(int(match[1])), names.get(match[1]))
    return MODALITIES.get(found.lower()) if isinstance(found, str) else None
