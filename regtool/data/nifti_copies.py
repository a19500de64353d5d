"""Cases of other forms as NIfTI files and landmark tables, for all that reads ordinary files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.data.cases import Case, PairCase
from regtool.data.loading import load_image, load_labels, load_points
from regtool.errors import InputError
from regtool.imaging.points import write_points
from regtool.imaging.volume import Volume
from regtool.imaging.writing import Outputs

log = logging.getLogger("regtool.data")

INDEX = "regtool-copies.json"
"""What the copies were made from, so that they are made once."""
SUFFIXES = (".nii.gz", ".nii", ".pkl", ".img")


def as_nifti(pairs: Sequence[PairCase], folder: Path) -> list[PairCase]:
    """The pairs with ordinary files: what is not one is written to ``folder``, if need be made.

    A copy that is there, made from the same file (by path, size and time) in the same way, is kept;
    every file appears whole or not at all. Raises InputError for an unreadable case, and for two
    that would get the same name; OutputError where nothing can be written.
    """
    made = _index(folder)
    copies: dict[Case, Case] = {}
    owners: dict[str, Case] = {}
    todo = [case for pair in pairs for case in (pair.fixed, pair.moving) if not case.ordinary]
    for case in dict.fromkeys(todo):
        name = _name(case)
        owner = owners.setdefault(name, case)
        if owner is not case:
            raise InputError(
                f"{case.image}: would be copied to the same {name}.nii.gz as {owner.image}"
            )
        copies[case] = _copy(case, name, folder, made)
    return [
        replace(
            pair,
            fixed=copies.get(pair.fixed, pair.fixed),
            moving=copies.get(pair.moving, pair.moving),
        )
        for pair in pairs
    ]


def _name(case: Case) -> str:
    stem = case.image.name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    # Pickles of different splits may have the same name.
    return f"{case.image.parent.name}_{stem}" if case.stored == "pickle" else stem


def _copy(case: Case, name: str, folder: Path, made: dict[str, Any]) -> Case:
    facts = _facts(case)
    if case.stored is None and case.frame is None:
        image_path, labels_path = case.image, case.labels
    else:
        image_path = folder / f"{name}.nii.gz"
        labels_path = None if case.labels is None else folder / f"{name}_labels.nii.gz"
    points_path = None if case.points is None else folder / f"{name}_landmarks.csv"
    targets = {
        part: path
        for part, path, source in (
            ("image", image_path, case.image),
            ("labels", labels_path, case.labels),
            ("points", points_path, case.points),
        )
        if path is not None and path != source
    }
    result = replace(
        case, image=image_path, labels=labels_path, points=points_path,
        frame=None, stored=None, counted_from=None,
    )  # fmt: skip
    if made.get(name) == facts and all(path.is_file() for path in targets.values()):
        return result
    log.info("%s: written to %s", case.image, folder)
    image = load_image(case)
    labels = load_labels(case, image) if "labels" in targets else None
    points = load_points(case, image) if "points" in targets else None
    writers: dict[str, Callable[[Outputs], Any]] = {
        "image": lambda outputs: outputs.image("image", image.array, image.grid),
        "labels": lambda outputs: _write_labels(outputs, labels),
        "points": lambda outputs: _write_points(outputs, points),
    }
    made[name] = facts
    with Outputs({**targets, "index": folder / INDEX}, overwrite=True) as outputs:
        for part in targets:
            writers[part](outputs)
        outputs.text("index", json.dumps({"schema": 1, "copies": made}, indent=1) + "\n")
    return result


def _write_labels(outputs: Outputs, labels: Volume | None) -> None:
    if labels is not None:
        outputs.image("labels", labels.array, labels.grid)


def _write_points(outputs: Outputs, points: NDArray[np.float64] | None) -> None:
    if points is not None:
        write_points(outputs.file("points"), points)


def _facts(case: Case) -> list[Any]:
    """What a copy depends on, as JSON would give it back."""
    facts: list[Any] = [str(case.stored), case.frame, case.counted_from]
    for path in (case.image, case.labels, case.points):
        if path is None:
            facts.append(None)
            continue
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        facts.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return facts


def _index(folder: Path) -> dict[str, Any]:
    """What is known of the copies in a folder; nothing where its index is absent or damaged."""
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    copies = content.get("copies") if isinstance(content, dict) else None
    return copies if isinstance(copies, dict) else {}
