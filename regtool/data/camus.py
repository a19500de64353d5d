"""Reader of CAMUS (2-D echocardiography, Leclerc et al., IEEE TMI 2019): ED moving, ES fixed.

Two published layouts are understood, each given by its folder or one of the folders within it:

- NIfTI: ``database_nifti/patient0001/patient0001_2CH_ED.nii.gz`` and ``…_ED_gt.nii.gz``, the same
  with ``ES`` and ``4CH``, ``Info_2CH.cfg``, and beside it ``database_split/subgroup_training.txt``,
  ``subgroup_validation.txt`` and ``subgroup_testing.txt``, one patient a line;
- MetaImage: ``training/patient0001/patient0001_2CH_ED.mhd`` and ``…_ED_gt.mhd`` (with ``.raw``
  files), and ``testing/`` with numbers that start again from 1, and without labels.

Labels are 1 left ventricle, 2 myocardium, 3 left atrium.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regtool.data.cases import Case, PairCase, Split, assign_splits, first_file
from regtool.data.settings import Setting, parse_spec
from regtool.errors import InputError

FOLDER = re.compile(r"patient\d+$")
SUFFIXES = (".nii.gz", ".nii", ".mhd", ".mha")
VIEWS = ("2CH", "4CH")
QUALITIES = ("poor", "medium", "good")
SETTINGS = {
    "view": Setting("both", ("2CH", "4CH", "both"), help="pairs of this view only"),
    "quality": Setting("poor", QUALITIES, help="the lowest ImageQuality of Info_VIEW.cfg"),
    "split": Setting(
        "official",
        ("official", "paper"),
        help="the lists, or the first 400 by name, the next 20, the others",
    ),
}
"""Settings of ``camus:FOLDER?…``; the default is both views, any quality, the official split."""
LISTS: dict[str, Split] = {
    "subgroup_training.txt": "train",
    "subgroup_validation.txt": "val",
    "subgroup_testing.txt": "test",
}
PAPER = (400, 20)
"""LDM-Morph: the first 400 patients by name train, the next 20 validate, the others test."""


@dataclass(frozen=True)
class _Patient:
    """``name`` is unique: patients of ``testing/`` have it in front of their folder's name."""

    folder: Path
    name: str
    testing: bool


def read_camus(spec: str | Path) -> list[PairCase]:
    """A pair a patient and view from ``FOLDER[?view=2CH&quality=medium&split=paper]``.

    ``view`` is 2CH, 4CH or both (default). ``quality`` is the lowest ImageQuality in
    ``Info_VIEW.cfg`` that is taken (poor, medium, good). ``split`` is ``official`` (default: the
    lists of ``database_split``; without them patients of ``testing/`` are ``test`` and a tenth of
    the others, chosen by name, is ``val``) or ``paper`` (400, 20 and the other patients by name).
    Raises UsageError for an unknown setting, InputError for missing or malformed files.
    """
    root, settings = parse_spec("camus", spec, SETTINGS)
    patients = _patients(root)
    splits = _paper(patients) if settings["split"] == "paper" else _official(root, patients)
    views = VIEWS if settings["view"] == "both" else (str(settings["view"]),)
    lowest = QUALITIES.index(str(settings["quality"]))
    return [
        PairCase(
            f"{patient.name}_{view}",
            _phase(patient, view, "ES"),
            _phase(patient, view, "ED"),
            splits[patient.name],
            patient.name,
        )
        for patient in patients
        for view in views
        if lowest == 0 or _quality(patient.folder / f"Info_{view}.cfg") >= lowest
    ]


def _patients(root: Path) -> list[_Patient]:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder (CAMUS is read from the folder of its patients)")
    found: dict[str, _Patient] = {}
    for part in ("", "database_nifti", "training", "testing"):
        place = root / part
        testing = place.name == "testing"
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            if not (folder.is_dir() and FOLDER.match(folder.name)):
                continue
            name = f"testing-{folder.name}" if testing else folder.name
            if name in found:
                raise InputError(f"{folder}: the same patient is also at {found[name].folder}")
            found[name] = _Patient(folder, name, testing)
    if not found:
        raise InputError(
            f"{root}: no patientNNNN folders here, nor in database_nifti/, training/ or testing/ "
            "below it"
        )
    return [found[name] for name in sorted(found)]


def _paper(patients: list[_Patient]) -> dict[str, Split]:
    names = sorted(p.name for p in patients if not p.testing)
    train, val = PAPER
    splits: dict[str, Split] = dict.fromkeys((p.name for p in patients), "test")
    splits.update(dict.fromkeys(names[train : train + val], "val"))
    splits.update(dict.fromkeys(names[:train], "train"))
    return splits


def _official(root: Path, patients: list[_Patient]) -> dict[str, Split]:
    for place in (root / "database_split", root.parent / "database_split", root):
        lists = {place / name: split for name, split in LISTS.items() if (place / name).is_file()}
        if lists:
            return _listed(lists, patients)
    splits = assign_splits(p.name for p in patients if not p.testing)
    return splits | dict.fromkeys((p.name for p in patients if p.testing), "test")


def _listed(lists: Mapping[Path, Split], patients: list[_Patient]) -> dict[str, Split]:
    """The splits of the lists; patients of ``testing/`` have none there and are ``test``."""
    splits: dict[str, Split] = dict.fromkeys((p.name for p in patients if p.testing), "test")
    for path, split in lists.items():
        try:
            names = path.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as a list of patients ({error})") from None
        for name in names:
            if not FOLDER.match(name):
                raise InputError(f"{path}: expected patients such as patient0001, found {name!r}")
            if splits.setdefault(name, split) != split:
                raise InputError(f"{path}: {name} is in another list too, as {splits[name]}")
    for patient in patients:
        if patient.name not in splits:
            names_of_lists = ", ".join(path.name for path in lists)
            raise InputError(
                f"{next(iter(lists)).parent}: {patient.name} is in none of {names_of_lists}"
            )
    return splits


def _phase(patient: _Patient, view: str, phase: str) -> Case:
    stem = f"{patient.folder.name}_{view}_{phase}"
    image = first_file(patient.folder, stem, SUFFIXES)
    if image is None:
        other = next(v for v in VIEWS if v != view)
        raise InputError(
            f"{patient.folder}: {stem}.nii.gz (or .mhd) is missing; "
            f"?view={other} reads the other view alone"
        )
    return Case(image, first_file(patient.folder, f"{stem}_gt", SUFFIXES), modality="us")


def _quality(info: Path) -> int:
    """Index into QUALITIES of the line ``ImageQuality: Good`` of an ``Info_VIEW.cfg``."""
    try:
        text = info.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(
            f"{info}: cannot be read: {error.strerror or error} (?quality= needs it)"
        ) from None
    match = re.search(r"^[ \t]*ImageQuality[ \t]*[:=][ \t]*(\w+)[ \t]*$", text, re.MULTILINE)
    if match is None or match[1].lower() not in QUALITIES:
        raise InputError(f"{info}: no line 'ImageQuality: Good', Medium or Poor")
    return QUALITIES.index(match[1].lower())
