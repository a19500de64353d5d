"""Reader of OASIS brains (Marcus et al., J Cogn Neurosci 2007): pairs of two people's T1 scans.

Three forms are understood, each given by its folder:

- one folder a scan, as of the MICCAI 2012 multi-atlas challenge: ``1017/t1.nii.gz``,
  ``labels.nii.gz`` (structures), ``tissues.nii.gz``;
- Neurite's: ``OASIS_OAS1_0001_MR1/aligned_norm.nii.gz``, ``aligned_seg35.nii.gz`` (structures),
  ``aligned_seg4.nii.gz`` (tissues);
- Learn2Reg's: ``OASIS_dataset.json``, ``imagesTr``, ``labelsTr`` (``regtool.data.learn2reg``, with
  the validation pairs that it lists).

In the first two a validation pair is a validation scan (fixed) with a training scan (moving).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from regtool.data.cases import Case, PairCase, Split, assign_splits, first_file
from regtool.data.learn2reg import find_listing, read_learn2reg
from regtool.data.settings import SPLIT, Setting, chosen, parse_spec
from regtool.data.unpaired import COUNT, SEED, VAL_COUNT, Scan, across, among
from regtool.errors import InputError, UsageError

HELD_OUT = ("1017", "1036")
"""Validation scans of the MICCAI 2012 training set, by number."""
SUFFIXES = (".nii.gz", ".nii")
FILES = {
    "t1": {"structures": "labels", "tissues": "tissues"},
    "aligned_norm": {"structures": "aligned_seg35", "tissues": "aligned_seg4"},
}
"""Name of the image, and those of its label maps, in the folder of a scan."""
SESSION = re.compile(r"_MR\d+$")
SETTINGS = {
    "n": COUNT,
    "val": VAL_COUNT,
    "seed": SEED,
    "labels": Setting(
        "structures", ("structures", "tissues", "none"), help="which label maps are attached"
    ),
    "split": SPLIT,
}


def read_oasis(spec: str | Path) -> list[PairCase]:
    """Pairs of ``FOLDER[?n=78&val=26&seed=0&labels=tissues&split=val]``, training first.

    ``n`` and ``val`` are the numbers of training pairs (default 100) and validation pairs (30), or
    ``all``; ``seed`` picks others; ``labels`` is structures (default), tissues or none. Scans 1017
    and 1036 validate; where neither is there, a tenth of the people, chosen by name, does. Both
    scans of a training pair are training scans; a validation pair takes its moving scan from them.
    ``split`` leaves out the pairs of the others.
    Raises UsageError for an unknown setting, InputError for missing files.
    """
    root, settings = parse_spec("oasis", spec, SETTINGS)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder (OASIS is read from the folder of its scans)")
    if find_listing(root):
        return read_learn2reg(_learn2reg_spec(root, settings), "oasis")
    scans = _scans(root, str(settings["labels"]))
    train = [scan for scan in scans if scan.split == "train"]
    val = [scan for scan in scans if scan.split == "val"]
    seed = int(settings["seed"])
    pairs = [
        *among(train, settings["n"], seed, "train"),
        *across(val, train, settings["val"], seed, "val"),
    ]
    return chosen(pairs, settings)


def _learn2reg_spec(root: Path, settings: Mapping[str, str | int]) -> str:
    if settings["labels"] == "tissues":
        raise UsageError(f"oasis:{root}: labels=tissues: Learn2Reg's OASIS has no tissues")
    labels = {"structures": "yes", "none": "none"}[str(settings["labels"])]
    parts = [f"{key}={settings[key]}" for key in ("n", "val", "seed", "split")]
    return f"{root}?{'&'.join(parts)}&labels={labels}"


def _scans(root: Path, labels: str) -> list[Scan]:
    found: list[tuple[str, Case]] = []
    for folder in sorted(f for f in root.iterdir() if f.is_dir()):
        for stem, maps in FILES.items():
            image = first_file(folder, stem, SUFFIXES)
            if image is not None:
                own = None if labels == "none" else first_file(folder, maps[labels], SUFFIXES)
                found.append((folder.name, Case(image, own, modality="mr")))
                break
    if len(found) < 2:
        raise InputError(
            f"{root}: {len(found)} folders here hold a t1.nii.gz or aligned_norm.nii.gz, and pairs "
            "need two; nor is there Learn2Reg's OASIS_dataset.json"
        )
    people = {name: SESSION.sub("", name) for name, _ in found}
    splits = _splits(set(people.values()))
    return [Scan(name, case, splits[people[name]], people[name]) for name, case in found]


def _splits(people: set[str]) -> dict[str, Split]:
    if people.isdisjoint(HELD_OUT):
        return assign_splits(people)
    return {person: "val" if person in HELD_OUT else "train" for person in people}
