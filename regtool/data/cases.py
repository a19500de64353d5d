"""What a data reader hands over: paths of images and pairs, nothing loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
UNSAFE = set('/\\:*?"<>|')


@dataclass(frozen=True)
class Raw:
    """How to read a file of bare 16-bit values (little-endian, x fastest, then y, then z).

    ``size`` and ``spacing`` (mm) are (x, y, z); ``direction`` says where the axes point to, as
    three letters such as ``LPS`` or ``LPI`` (regtool.data.raw). ``offset`` is subtracted from the
    values, and what is then below ``lowest`` becomes ``lowest``.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    direction: str = "LPS"
    offset: int = 0
    lowest: int = -(2**15)


@dataclass(frozen=True)
class Case:
    """One image and what belongs to it.

    ``frame`` counts from 0 and picks one volume of a 4-D ``image`` or one frame of a video; None
    for ordinary files. ``labels`` of a frame may be a table of tracings (``VolumeTracings.csv``).
    ``stored`` is None for files that core reads; else ``image`` (and ``labels``) are a ``pickle``
    of arrays, or ``image`` is a Raw file. ``counted_from`` is None for ``points`` in LPS mm; else
    they are voxels of the image, x y z, counted from this number, in a text without a header.
    ``regtool.data.loading`` reads a case.
    """

    image: Path
    labels: Path | None = None
    mask: Path | None = None
    points: Path | None = None
    modality: str | None = None
    frame: int | None = None
    stored: Literal["pickle"] | Raw | None = None
    counted_from: int | None = None

    @property
    def ordinary(self) -> bool:
        """Whether core reads all of it by the paths alone."""
        return self.frame is None and self.stored is None and self.counted_from is None


@dataclass(frozen=True)
class PairCase:
    """A pair to register: ``name`` is unique within its source and safe as a file name.

    ``subject`` is the unit of splitting: pairs of one subject never lie in two splits. ``field`` is
    a known displacement from fixed to moving points, a file as of ``1Warp``; for synthetic pairs.
    ``roi`` is a mask on the fixed image on whose middle a method's box is placed at registration.
    """

    name: str
    fixed: Case
    moving: Case
    split: Split
    subject: str
    field: Path | None = None
    roi: Path | None = None


def assign_splits(subjects: Iterable[str], val: float = 0.1, test: float = 0.0) -> dict[str, Split]:
    """Split subjects in a way that depends on nothing but their names.

    Subjects are ranked by the SHA-256 of their names; the first ``val`` share (at least one of two
    or more) becomes validation, the next ``test`` share test, the rest training.
    """
    ranked = sorted(set(subjects), key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    count_val = 0 if val <= 0 or len(ranked) < 2 else max(1, round(val * len(ranked)))
    count_test = round(test * len(ranked))
    held_out: dict[str, Split] = dict.fromkeys(ranked[: count_val + count_test], "test")
    held_out.update(dict.fromkeys(ranked[:count_val], "val"))
    return {subject: held_out.get(subject, "train") for subject in ranked}


def is_file_name(name: str) -> bool:
    """Whether a pair may have this name: files are named after it, on any system."""
    return bool(name) and not UNSAFE & set(name) and name[0] not in ".-" and name.isprintable()


def only(pairs: Iterable[PairCase], split: Split) -> list[PairCase]:
    """The pairs of one split, in their order."""
    return [p for p in pairs if p.split == split]


def first_file(folder: Path, stem: str, suffixes: Iterable[str]) -> Path | None:
    """The file of a folder that is ``stem`` with the first of ``suffixes`` there is, or None."""
    found = (folder / (stem + suffix) for suffix in suffixes)
    return next((path for path in found if path.is_file()), None)
