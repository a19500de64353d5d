"""Reader of DIR-Lab's ten 4D CT cases (Castillo et al., Phys Med Biol 2009 and 2010).

Images are raw 16-bit volumes, landmarks are text. Names vary from case to case, and from download
to download, so files are told by their names alone, in any folder (case does not count):

- images ``case1_T00_s.img``, ``case2_T00-ssm.img``, ``case6_T00.img``;
- landmarks ``Case1_300_T00_xyz.txt``, ``case6_dirLab300_T00_xyz.txt``.

T00 (inhale, fixed) and T50 (exhale, moving) are read, with their 300 landmarks, which are voxels
counted from 1. The stored values are HU + 1024; the axes point left, back and down.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from regtool.data.cases import Case, PairCase, Raw, Split
from regtool.data.raw import check_size
from regtool.data.settings import NIFTI, SPLIT, Setting, chosen, parse_spec
from regtool.data.voxel_points import read_voxels
from regtool.errors import InputError, UsageError

log = logging.getLogger("regtool.data")

SLICES = (94, 112, 104, 99, 106, 128, 136, 128, 128, 120)
IN_PLANE = (0.97, 1.16, 1.15, 1.13, 1.10, 0.97, 0.97, 0.97, 0.97, 0.97)
THICKNESS = 2.5
"""Sizes and spacings (mm) as DIR-Lab's page gives them; cases 1 to 5 are 256 wide, others 512."""
INITIAL = (3.89, 4.34, 6.94, 9.83, 7.48, 10.89, 11.03, 14.99, 7.92, 7.30)
"""Mean distance (mm) of the 300 landmarks before registration, as published, by case."""
TOLERANCE = 0.02
"""mm; the published means are rounded to two digits, spacings as well."""
LANDMARKS = 300
AIR = -1024
DEPTH = 4
"""Folders below the given one that are looked through."""
IMAGE = re.compile(r"case0?(\d+)_T(00|50)(?:_s|-ssm|_ssm)?\.img", re.IGNORECASE)
POINTS = re.compile(r"case0?(\d+)_(?:dirlab)?300_T(00|50)_xyz\.txt", re.IGNORECASE)
PHASES = {"fixed": "00", "moving": "50"}
SETTINGS = {
    "fold": Setting(0, (), 1, help="test this fold, validate the next, train on the others"),
    "folds": Setting(5, (), 3, help="how many folds the ten cases make"),
    "check": Setting(
        "strict", ("strict", "warn"), help="refuse landmarks whose distance is not the published"
    ),
    "offset": Setting(1024, (), 0, most=2**15 - 1, help="subtracted from stored values, gives HU"),
    "split": SPLIT,
    "nifti": NIFTI,
}

Files = dict[tuple[int, str], Path]
"""Files by case and phase."""


def read_dirlab(spec: str | Path) -> list[PairCase]:
    """A pair a case from ``FOLDER[?fold=1&folds=5&check=warn&offset=1024&split=test&nifti=DIR]``.

    All cases are ``test``, as the 300 landmarks are what methods are judged by. To train, name a
    ``fold`` (1 to ``folds``): its cases are ``test``, those of the next fold ``val``, the others
    ``train``; case N is in fold ``(N - 1) mod folds + 1``. The mean distance of the landmarks must
    be the published one; ``check=warn`` lets other landmarks pass. ``offset`` is subtracted from
    the stored values, which gives HU; below -1024 is -1024. ``nifti=DIR`` writes the volumes as
    NIfTI files and the landmarks as tables there, once; training does without.
    Raises UsageError for an unknown setting, InputError for missing files, sizes that are not the
    case's, landmarks outside the image, and initial distances that are not the published ones.
    """
    root, settings = parse_spec("dirlab", spec, SETTINGS)
    fold, folds = int(settings["fold"]), int(settings["folds"])
    if fold > folds or folds > len(SLICES):
        raise UsageError(f"dirlab:{root}: fold={fold}: there are {folds} folds of 10 cases")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder (DIR-Lab is read from the folder of its cases)")
    images, points = _files(root)
    numbers = sorted({number for number, _ in images})
    if not numbers:
        raise InputError(
            f"{root}: no images such as Case1Pack/Images/case1_T00_s.img in it (the COPDgene cases "
            "of DIR-Lab are not read)"
        )
    pairs = []
    for number in numbers:
        split = _split(number, fold, folds)
        if settings["split"] in ("all", split):
            pairs.append(_pair(root, number, images, points, split, settings))
    return chosen(pairs, settings)


def form(number: int, offset: int = 1024) -> Raw:
    """How the images of a case, 1 to 10, are stored."""
    width = 256 if number <= 5 else 512
    in_plane = IN_PLANE[number - 1]
    size = (width, width, SLICES[number - 1])
    return Raw(size, (in_plane, in_plane, THICKNESS), "LPI", offset, AIR)


def _split(number: int, fold: int, folds: int) -> Split:
    if not fold:
        return "test"
    own = (number - 1) % folds + 1
    if own == fold:
        return "test"
    return "val" if own == fold % folds + 1 else "train"


def _files(root: Path) -> tuple[Files, Files]:
    images: Files = {}
    points: Files = {}
    for path in _below(root, DEPTH):
        for pattern, known in ((IMAGE, images), (POINTS, points)):
            match = pattern.fullmatch(path.name)
            if match is None or not 1 <= int(match[1]) <= len(SLICES):
                continue
            other = known.setdefault((int(match[1]), match[2]), path)
            if other != path:
                raise InputError(f"{path}: the same file as {other}? Leave one of them in {root}")
    return images, points


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """The files of a folder and of those below it, in a fixed order; links are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _below(Path(entry.path), depth - 1)
        else:
            yield Path(entry.path)


def _pair(
    root: Path,
    number: int,
    images: Files,
    points: Files,
    split: Split,
    settings: Mapping[str, str | int],
) -> PairCase:
    raw = form(number, int(settings["offset"]))
    cases: dict[str, Case] = {}
    for role, phase in PHASES.items():
        image = images.get((number, phase))
        if image is None:
            raise InputError(
                f"{root}: case {number} has no image of T{phase} (case{number}_T{phase}….img)"
            )
        check_size(image, raw)
        own = points.get((number, phase))
        cases[role] = Case(
            image, points=own, modality="ct", stored=raw, counted_from=None if own is None else 1
        )
    _check_landmarks(number, cases["fixed"].points, cases["moving"].points, raw, settings)
    name = f"case{number:02d}"
    return PairCase(name, cases["fixed"], cases["moving"], split, name)


def _check_landmarks(
    number: int,
    fixed: Path | None,
    moving: Path | None,
    raw: Raw,
    settings: Mapping[str, str | int],
) -> None:
    """Compare the landmarks' mean distance with the published one: a check of all that is read."""
    if fixed is None or moving is None:
        log.warning(
            "DIR-Lab case %d: no landmarks such as Case%d_300_T00_xyz.txt and …T50…; no TRE",
            number,
            number,
        )
        return
    one, other = (read_voxels(path, raw.size, 1) for path in (fixed, moving))
    if len(one) != len(other):
        raise InputError(f"{moving}: {len(other)} landmarks, but {fixed.name} has {len(one)}")
    found = float(np.linalg.norm((one - other) * raw.spacing, axis=1).mean())
    expected = INITIAL[number - 1]
    if len(one) == LANDMARKS and abs(found - expected) <= TOLERANCE:
        return
    message = (
        f"{fixed}: the {len(one)} landmarks are {found:.2f} mm apart on average, but those of case "
        f"{number} are {LANDMARKS} and {expected:.2f} mm; are they of another case or phase, an "
        "improved set, in another order of x, y and z, or of resampled images?"
    )
    if settings["check"] == "strict":
        raise InputError(f"{message} (?check=warn reads them all the same)")
    log.warning("%s", message)
