"""The reader ``example-folders``: one folder a subject, as ``regtool demo`` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from regtool.api import Case, Field, InputError, Options, PairCase, Reader, assign_splits

IMAGES = ("fixed", "moving")


class FoldersSettings(Options):
    """Settings of ``example-folders:FOLDER?name=value``."""

    val: float = Field(0.5, ge=0, lt=1, description="Share of the subjects that validate.")
    labels: bool = Field(True, description="Take the label maps along.")


def read(place: Path, settings: FoldersSettings) -> Iterator[PairCase]:
    """List one pair a subject: ``FOLDER/SUBJECT/fixed.nii.gz``, ``moving.nii.gz`` and labels."""
    if not place.is_dir():
        raise InputError(f"{place}: no such folder; give the one that holds the subjects' folders")
    subjects = sorted(folder for folder in place.iterdir() if folder.is_dir())
    splits = assign_splits([folder.name for folder in subjects], val=settings.val)
    for folder in subjects:
        fixed, moving = (_case(folder, name, settings.labels) for name in IMAGES)
        yield PairCase(folder.name, fixed, moving, splits[folder.name], subject=folder.name)


def _case(folder: Path, name: str, with_labels: bool) -> Case:
    image = folder / f"{name}.nii.gz"
    if not image.is_file():
        raise InputError(f"{folder}: no {image.name}; each subject needs fixed and moving")
    labels = folder / f"{name}_labels.nii.gz"
    return Case(image, labels if with_labels and labels.is_file() else None, modality="mr")


READER = Reader(
    name="example-folders",
    summary="One folder a subject, with the files of regtool demo.",
    read=read,
    settings=FoldersSettings,
)
