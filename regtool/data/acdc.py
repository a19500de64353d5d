"""Reader of ACDC (cine cardiac MR, Bernard et al., IEEE TMI 2018): ED moving, ES fixed.

Two layouts are understood, with or without the folders ``training/`` and ``testing/``:

- the release: ``patient001/Info.cfg`` naming the ED and ES frames (from 1),
  ``patient001_frame01.nii.gz``, ``patient001_frame01_gt.nii.gz``, ``patient001_4d.nii.gz``;
- named phases: ``patient001/patient001_ED.nii.gz``, ``patient001_ED_gt.nii.gz`` and the same
  with ``ES``, optionally with an ``index.json`` that gives each patient's ``split``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from regtool.data.cases import SPLITS, Case, PairCase, Split, assign_splits, first_file
from regtool.errors import InputError
from regtool.paths import expanded

FOLDER = re.compile(r"patient(\d+)$")
OFFICIAL_TRAINING = 100  # the release numbers its training patients 1 to 100, testing from 101
SUFFIXES = (".nii.gz", ".nii")


def read_acdc(path: str | Path) -> list[PairCase]:
    """One pair a patient: ED moving, ES fixed, labels where the files exist.

    Splits come from ``index.json`` if there is one; else patients of ``testing/`` (or, without
    these folders, numbered above 100) are ``test``, and a tenth of the others, chosen by name,
    is ``val``. Raises InputError for a missing folder, phase, or malformed side file.
    """
    root = expanded(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder (ACDC is read from the folder of its patients)")
    folders = _patient_folders(root)
    if not folders:
        raise InputError(
            f"{root}: no patientNNN folders here, nor in training/ or testing/ below it"
        )
    splits = _splits(root, folders)
    return [
        PairCase(
            folder.name,
            _phase(folder, "ES"),
            _phase(folder, "ED"),
            splits[folder.name],
            folder.name,
        )
        for folder in folders
    ]


def _patient_folders(root: Path) -> list[Path]:
    places = [p for p in (root, root / "training", root / "testing") if p.is_dir()]
    found = [f for p in places for f in p.iterdir() if f.is_dir() and FOLDER.match(f.name)]
    by_name: dict[str, Path] = {}
    for folder in found:
        if folder.name in by_name:
            raise InputError(f"{folder}: the same patient is also at {by_name[folder.name]}")
        by_name[folder.name] = folder
    return [by_name[name] for name in sorted(by_name)]


def _splits(root: Path, folders: list[Path]) -> dict[str, Split]:
    index = root / "index.json"
    if index.is_file():
        return _index_splits(index, folders)
    held_out = {f.name for f in folders if _is_testing(f)}
    splits = assign_splits(f.name for f in folders if f.name not in held_out)
    return splits | dict.fromkeys(held_out, "test")


def _is_testing(folder: Path) -> bool:
    if folder.parent.name in ("training", "testing"):
        return folder.parent.name == "testing"
    match = FOLDER.match(folder.name)
    return match is not None and int(match[1]) > OFFICIAL_TRAINING


def _index_splits(index: Path, folders: list[Path]) -> dict[str, Split]:
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{index}: not readable as JSON ({error})") from error
    splits: dict[str, Split] = {}
    for folder in folders:
        entry = entries.get(folder.name) if isinstance(entries, dict) else None
        split = entry.get("split") if isinstance(entry, dict) else None
        if split not in SPLITS:
            raise InputError(
                f"{index}: {folder.name} has no split of {', '.join(SPLITS)} (found {split!r})"
            )
        splits[folder.name] = split
    return splits


def _phase(folder: Path, phase: str) -> Case:
    named = first_file(folder, f"{folder.name}_{phase}", SUFFIXES)
    if named is not None:
        return Case(named, first_file(folder, f"{folder.name}_{phase}_gt", SUFFIXES), modality="mr")
    frame = _frame_number(folder, phase)
    for digits in (f"{frame:02d}", f"{frame:03d}", str(frame)):
        image = first_file(folder, f"{folder.name}_frame{digits}", SUFFIXES)
        labels = first_file(folder, f"{folder.name}_frame{digits}_gt", SUFFIXES)
        if image is not None:
            return Case(image, labels, modality="mr")
    cine = first_file(folder, f"{folder.name}_4d", SUFFIXES)
    if cine is None:
        raise InputError(
            f"{folder}: {phase} is missing: neither {folder.name}_{phase}.nii.gz, "
            f"{folder.name}_frame{frame:02d}.nii.gz nor {folder.name}_4d.nii.gz"
        )
    labels = first_file(folder, f"{folder.name}_frame{frame:02d}_gt", SUFFIXES)
    return Case(cine, labels, modality="mr", frame=frame - 1)


def _frame_number(folder: Path, phase: str) -> int:
    info = folder / "Info.cfg"
    if not info.is_file():
        raise InputError(
            f"{folder}: {folder.name}_{phase}.nii.gz is missing, and so is Info.cfg, "
            f"which would name the frame of {phase}"
        )
    text = info.read_text(encoding="utf-8", errors="replace")
    match = re.search(rf"^[ \t]*{phase}[ \t]*[:=][ \t]*(\d{{1,9}})[ \t]*$", text, re.MULTILINE)
    if match is None or int(match[1]) < 1:
        raise InputError(f"{info}: no line '{phase}: N' with a frame number from 1")
    return int(match[1])
