"""The checks for authors of readers find what is wrong, and pass what is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from fake_distributions import Site

from regtool.errors import InputError
from regtool.testing import check_reader

POINTS = "x,y,z\n-12,-9,0\n-4,-3,0\n"
"""Two landmarks inside the test images, in LPS mm."""


def write(path: Path, size: tuple[int, ...] = (16, 12), value: float = 1.0) -> None:
    """An image whose axes point to negative x and y."""
    image = sitk.GetImageFromArray(np.full(size[::-1], value, np.float32))
    image.SetDirection((np.diag([-1.0, -1.0, 1.0][: len(size)])).flatten())
    sitk.WriteImage(image, str(path))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Files for the pairs that the tests make."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("0", "1", "labels"):
        write(folder / f"{name}.nii.gz")
    write(folder / "zeros.nii.gz", value=0)
    write(folder / "larger.nii.gz", size=(18, 12))
    write(folder / "volume.nii.gz", size=(8, 8, 8))
    (folder / "points.csv").write_text(POINTS)
    (folder / "mirrored.csv").write_text(POINTS.replace("-", ""))
    return folder


def reader(site: Site, answer: str) -> None:
    body = "import itertools, functools\ncalls = itertools.count()\n"
    site.add_reader("clinic", f"{body}READER.update(read=lambda place, _: {answer})\n")


def case(**parts: str) -> str:
    inner = "".join(f", {part}=place / '{file}'" for part, file in parts.items())
    return f"Case(place / '0.nii.gz'{inner})"


def test_a_sound_reader_passes(site: Site, place: Path) -> None:
    with_all = case(labels="labels.nii.gz", mask="labels.nii.gz", points="points.csv")
    reader(site, f"[pair(place, 0, fixed={with_all}), pair(place, 1, split='val')]")
    check_reader(f"clinic:{place}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("[pair(place, next(calls))]", "a second look lists other pairs"),
        ("[pair(place, 0, split='val')]", "no pair to train on, only of val"),
        ("[pair(place, 0, moving=Case(place / 'volume.nii.gz'))]", "2 dimensions and the other 3"),
        (f"[pair(place, 0, fixed={case(labels='larger.nii.gz')})]", "is not on the grid of"),
        (f"[pair(place, 0, fixed={case(mask='larger.nii.gz')})]", "is not on the grid of"),
        (f"[pair(place, 0, fixed={case(labels='zeros.nii.gz')})]", "only zeros"),
        (f"[pair(place, 0, moving={case(points='mirrored.csv')})]", "2 of 2 landmarks"),
    ],
)
def test_what_is_wrong_is_found(site: Site, place: Path, answer: str, words: str) -> None:
    reader(site, answer)
    with pytest.raises(AssertionError, match=words):
        check_reader(f"clinic:{place}")


def test_an_unreadable_image_is_found(site: Site, place: Path) -> None:
    site.add_reader("clinic")
    (place / "1.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.nii\.gz"):
        check_reader(f"clinic:{place}")
    check_reader(f"clinic:{place}", pairs=1)
