"""Reader of IXI brains (brain-development.org), in two forms, each given by its folder:

- as distributed with TransMorph (Chen et al., MedIA 2022): ``Train/``, ``Val/`` and ``Test/`` with
  ``subject_N.pkl``, and ``atlas.pkl`` (or ``Atlas/``): T1 scans with labels, skull-stripped and
  affinely aligned by FreeSurfer. Nothing in these files is unpickled (regtool.data.safe_pickle);
- as on the site of IXI: ``IXI012-HH-1211-T1.nii.gz``, ``…-T2.nii.gz``, in folders such as
  ``IXI-T1`` or together: whole heads without labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from regtool.data.cases import Case, PairCase, Split, assign_splits, is_file_name
from regtool.data.settings import NIFTI, SPLIT, Setting, chosen, parse_spec
from regtool.data.unpaired import COUNT, SEED, VAL_COUNT, Scan, among, couple, first, ranked
from regtool.errors import InputError, UsageError

FOLDERS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}
ATLASES = ("atlas.pkl", "altas.pkl")  # the distribution's own page spells it both ways
ON_SITE = re.compile(r"(IXI\d{3})-(\w+)-(\d+)-(T1|T2|PD)\.nii(\.gz)?$")
CONTRASTS = ("T1", "T2", "PD")
SHARES = (0.1, 0.2)
"""Validation and test shares of the site's form; TransMorph's 58 and 115 of 576 are the same."""
SETTINGS = {
    "pairs": Setting(
        "", ("atlas", "random", "same"), help="the atlas and a scan, two people, or one person"
    ),
    "images": Setting(
        "T1",
        (*CONTRASTS, *(f"{f}-{m}" for f in CONTRASTS for m in CONTRASTS)),
        help="the images of both scans, or fixed and moving (the site's form)",
    ),
    "n": COUNT,
    "val": VAL_COUNT,
    "test": Setting("all", ("all",), 1, help="test pairs"),
    "seed": SEED,
    "labels": Setting("yes", ("yes", "none"), help="attach the labels of TransMorph's form"),
    "split": SPLIT,
    "nifti": NIFTI,
}


def read_ixi(spec: str | Path) -> list[PairCase]:
    """Pairs of ``FOLDER[?pairs=random&images=T1-T2&n=403&val=58&test=115&seed=0&split=test]``.

    ``pairs``: ``atlas`` (the atlas moving, a scan fixed; default for TransMorph's form),
    ``random`` (two people; default for the site's form) or ``same`` (two images of one person;
    default where ``images`` names two). ``images`` (site's form): T1, T2 or PD, or fixed and moving
    as in T1-T2. ``n``, ``val`` and ``test`` are the numbers of pairs of each split, or ``all``.
    TransMorph's folders are the splits; in the site's form a tenth of the people, chosen by name,
    is ``val``, and a fifth ``test``. ``labels=none`` leaves the labels out, ``split`` the pairs of
    other splits; ``nifti=FOLDER`` writes pickled scans as NIfTI files there, once.
    Raises UsageError for settings that do not fit, InputError for missing files.
    """
    root, settings = parse_spec("ixi", spec, SETTINGS)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder (IXI is read from the folder of its scans)")
    pickled = _pickled(root, settings["labels"] == "yes")
    pairs = _of_pickles(root, pickled, settings) if pickled else _of_site(root, settings)
    return chosen(pairs, settings)


# -- as distributed with TransMorph ------------------------------------------------------------


def _pickled(root: Path, labels: bool) -> list[Scan]:
    scans: dict[str, Scan] = {}
    for folder in sorted(f for f in root.iterdir() if f.is_dir() and f.name.lower() in FOLDERS):
        for path in sorted(folder.glob("*.pkl")):
            if path.stem in scans:
                raise InputError(f"{path}: is also at {scans[path.stem].case.image}")
            split = FOLDERS[folder.name.lower()]
            scans[path.stem] = _pickled_scan(path, split, labels)
    return list(scans.values())


def _pickled_scan(path: Path, split: Split, labels: bool) -> Scan:
    if not is_file_name(path.stem):
        raise InputError(f"{path}: {path.stem!r} cannot be part of the names of results")
    case = Case(path, path if labels else None, modality="mr", stored="pickle")
    return Scan(path.stem, case, split, path.stem)


def _of_pickles(root: Path, scans: list[Scan], settings: Mapping[str, str | int]) -> list[PairCase]:
    if settings["images"] != "T1" or settings["pairs"] == "same":
        raise UsageError(
            f"ixi:{root}: TransMorph's form of IXI has one T1 scan a person; images= and "
            "pairs=same are for NIfTI files such as IXI012-HH-1211-T2.nii.gz"
        )
    seed, labels = int(settings["seed"]), settings["labels"] == "yes"
    atlas = None if settings["pairs"] == "random" else _atlas(root, labels)
    pairs = []
    for split, key in (("train", "n"), ("val", "val"), ("test", "test")):
        own = [scan for scan in scans if scan.split == split]
        if atlas is None:
            pairs += among(own, settings[key], seed, FOLDERS[split])
        else:
            some = first(ranked(own, seed), settings[key])
            pairs += [couple(scan, atlas, FOLDERS[split]) for scan in some]
    return pairs


def _atlas(root: Path, labels: bool) -> Scan:
    found = [root / name for name in ATLASES if (root / name).is_file()]
    for folder in (f for f in root.iterdir() if f.is_dir() and f.name.lower() == "atlas"):
        found += sorted(folder.glob("*.pkl"))
    if len(found) != 1:
        raise InputError(
            f"{root}: {len(found)} atlases (atlas.pkl, or one .pkl in Atlas/) instead of one; "
            "?pairs=random pairs the scans with each other"
        )
    return _pickled_scan(found[0], "train", labels)


# -- as on the site ----------------------------------------------------------------------------


def _of_site(root: Path, settings: Mapping[str, str | int]) -> list[PairCase]:
    fixed, _, moving = str(settings["images"]).partition("-")
    moving = moving or fixed
    kind = settings["pairs"] or ("random" if fixed == moving else "same")
    if kind == "atlas":
        raise UsageError(f"ixi:{root}: pairs=atlas needs TransMorph's form, with atlas.pkl")
    if kind == "same" and fixed == moving:
        raise UsageError(f"ixi:{root}: pairs=same needs two images, as in images=T1-T2")
    people = {
        person: images for person, images in _people(root).items() if {fixed, moving} <= set(images)
    }
    if not people:
        wanted = fixed if fixed == moving else f"{fixed} and {moving}"
        raise InputError(
            f"{root}: nobody with {wanted} here or in the folders below it; expected files such as "
            "Train/subject_0.pkl or IXI012-HH-1211-T1.nii.gz"
        )
    splits = assign_splits(people, *SHARES)
    ends = {
        contrast: [
            Scan(
                f"{person}-{contrast}",
                Case(images[contrast], modality="mr"),
                splits[person],
                person,
            )
            for person, images in people.items()
        ]
        for contrast in (fixed, moving)
    }
    partners = {one.name: other for one, other in zip(ends[fixed], ends[moving], strict=True)}
    seed = int(settings["seed"])
    pairs = []
    for split, key in (("train", "n"), ("val", "val"), ("test", "test")):
        own = [scan for scan in ends[fixed] if scan.split == split]
        if kind == "same":
            some = first(ranked(own, seed), settings[key])
            pairs += [couple(scan, partners[scan.name], FOLDERS[split]) for scan in some]
        else:
            pairs += among(own, settings[key], seed, FOLDERS[split], partners)
    return pairs


def _people(root: Path) -> dict[str, dict[str, Path]]:
    """The images of each person by their contrasts."""
    people: dict[str, dict[str, Path]] = {}
    for place in (root, *sorted(f for f in root.iterdir() if f.is_dir())):
        for path in sorted(place.iterdir()):
            match = ON_SITE.match(path.name)
            if match is None:
                continue
            images = people.setdefault(match[1], {})
            known = images.setdefault(match[4], path)
            if known != path:
                raise InputError(f"{path}: {match[1]} has another {match[4]}: {known}")
    return dict(sorted(people.items()))
