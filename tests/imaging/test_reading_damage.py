"""Files that are damaged, misnamed or nonsense: read all the same, or refused."""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from imaging_cases import numbers, save
from reading_cases import refused

from regtool.imaging.reading import read_image


def test_truncated_plain_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((15, 14, 13)))
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "truncated")
    path.write_bytes(path.read_bytes()[:200])
    refused(path)


@pytest.mark.parametrize("lost", [1, 7, 100, 2000])
def test_truncated_gzip(tmp_path: Path, lost: int) -> None:
    path = save(tmp_path / "a.nii.gz", numbers((15, 14, 13)))
    path.write_bytes(path.read_bytes()[:-lost])
    refused(path, "truncated")


@pytest.mark.parametrize("where", [0.2, 0.5, 0.9, 0.999])
def test_flipped_byte_in_gzip(tmp_path: Path, where: float) -> None:
    path = save(tmp_path / "a.nii.gz", numbers((15, 14, 13)))
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0x10
    path.write_bytes(content)
    refused(path)


def test_short_data_in_a_sound_gzip(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((15, 14, 13)))
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()[:-100]))
    refused(packed, "truncated")


def test_names_that_lie_about_compression(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", numbers((5, 4, 3)))
    packed = save(tmp_path / "b.nii.gz", numbers((5, 4, 3)))
    truth = read_image(plain).array
    shutil.copy(plain, tmp_path / "c.nii.gz")
    shutil.copy(packed, tmp_path / "c.nii")
    shutil.copy(packed, tmp_path / "C.NII.GZ")
    for name in ("c.nii.gz", "c.nii", "C.NII.GZ"):
        assert np.array_equal(read_image(tmp_path / name).array, truth)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", numbers((15, 14, 13)))
    content = plain.read_bytes()
    packed = tmp_path / "b.nii.gz"
    starts = range(0, len(content), 999)
    packed.write_bytes(b"".join(gzip.compress(content[i : i + 999]) for i in starts))
    assert np.array_equal(read_image(packed).array, read_image(plain).array)


def _nifti2(path: Path, size: int) -> None:
    header = nib.Nifti2Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((size, size))
    header["vox_offset"], header["magic"] = 544, b"n+2\0\r\n\x1a\n"
    path.write_bytes(header.binaryblock + b"\0" * 1000)


def test_a_header_that_claims_a_million_squared(tmp_path: Path) -> None:
    _nifti2(tmp_path / "a.nii", 1_000_000)
    refused(tmp_path / "a.nii", "1000000×1000000")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    refused(tmp_path / "b.nii.gz", "1000000×1000000")
    (tmp_path / "c.mha").write_text(
        "ObjectType = Image\nNDims = 2\nDimSize = 1000000 1000000\nElementType = MET_UCHAR\n"
        "ElementDataFile = LOCAL\n"
    )
    refused(tmp_path / "c.mha")


def test_missing_empty_folder_and_nonsense(tmp_path: Path) -> None:
    refused(tmp_path / "none.nii.gz", "no such file")
    (tmp_path / "empty.nii.gz").touch()
    refused(tmp_path / "empty.nii.gz", "empty")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "folder")
    (tmp_path / "text.nii").write_text("not an image" * 100)
    refused(tmp_path / "text.nii", "not an image")
    (tmp_path / "gz.nii.gz").write_bytes(gzip.compress(b"hello"))
    refused(tmp_path / "gz.nii.gz")
    (tmp_path / "raw.nii.gz").write_bytes(b"\x1f\x8b" + zlib.compress(b"hello"))
    refused(tmp_path / "raw.nii.gz", "corrupt")
