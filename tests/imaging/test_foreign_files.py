"""Headers of files that other programs wrote, down to the byte; paths that are no files."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from video_cases import avi, chunk, listing

from regtool.errors import InputError, OutputError, UsageError
from regtool.imaging.avi import open_video
from regtool.imaging.destination import output_errors, same_file
from regtool.imaging.image_write import write_image
from regtool.imaging.points import read_points
from regtool.imaging.reading import read_image
from regtool.imaging.transforms import read_affine
from regtool.spatial.grid import Grid

GRID = Grid((10, 9), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))


def test_a_video_of_empty_frames_holds_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(avi([b"", b""]))
    with pytest.raises(InputError, match=re.escape("not Motion JPEG (codec 'MJPG')")):
        open_video(path)


def test_a_video_is_named_by_its_stream_where_no_format_follows(tmp_path: Path) -> None:
    stream = b"vidsH264" + struct.pack("<IHHIII", 0, 0, 0, 0, 1, 25) + bytes(28)
    head = listing(b"hdrl", listing(b"strl", chunk(b"strh", stream)))
    path = tmp_path / "v.avi"
    frames = listing(b"movi", chunk(b"00dc", b"no JPEG!"))
    path.write_bytes(listing(b"AVI ", head, frames, name=b"RIFF"))
    with pytest.raises(InputError, match="codec 'H264'"):
        open_video(path)


def test_slicer_fiducials_without_a_coordinate_system_are_ras(tmp_path: Path) -> None:
    path = tmp_path / "old.fcsv"
    path.write_text("# Markups fiducial file version = 4.5\n1,10,20,30,0,0,0,1,1,1,0,F-1,,\n")
    assert read_points(path).points.tolist() == [[-10.0, -20.0, 30.0]]


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name")
def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii")
    with pytest.raises(InputError, match="not a regular file"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_whole_numbers_of_eight_bytes(tmp_path: Path, suffix: str) -> None:
    """Not a byte more is asked of the file than its voxels take."""
    values = np.arange(900, dtype=np.int64).reshape(30, 30)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"a{suffix}"))
    assert np.array_equal(read_image(tmp_path / f"a{suffix}").array, values)


def test_less_data_than_the_header_claims_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((30, 30))), str(path))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"truncated .* 30×30 voxels need 7200 bytes"):
        read_image(path)


def test_the_last_line_of_a_header_may_lack_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((6, 5), 7, np.uint8)), str(path))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert (read_image(path).array == 7).all()


def test_vectors_of_a_nrrd_are_checked_before_itk_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((6, 5), np.uint8)), str(path))
    content = path.read_bytes()
    changed = re.sub(rb"space directions: .*", b"space directions: (1,0) what (0,1)", content)
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(InputError, match=re.escape("vectors '(1,0) what (0,1)'")):
        read_image(path)


def test_one_number_that_is_not_finite_spoils_an_affine(tmp_path: Path) -> None:
    """In a file that only ITK itself can read."""
    path = tmp_path / "a.h5"
    transform = sitk.AffineTransform(2)
    transform.SetTranslation((1.0, float("nan")))
    sitk.WriteTransform(transform, str(path))
    with pytest.raises(InputError, match="not finite"):
        read_affine(path)


def test_files_that_are_not_there_yet_are_compared_by_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert same_file(Path("a.nii"), tmp_path / "a.nii")
    assert not same_file(Path("a.nii"), Path("b.nii"))


def test_what_simpleitk_says_of_writing_is_an_output_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.mha: cannot be written: the disk"),
        output_errors(tmp_path / "a.mha"),
    ):
        raise RuntimeError("itk::ERROR: somewhere\nthe disk is full\n")


def test_a_suffix_that_names_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.png: unknown image format; use .*\.nii\.gz"):
        write_image(tmp_path / "a.png", np.ones((9, 10), np.float32), GRID)
    assert not list(tmp_path.iterdir())


def test_compressed_files_are_compressed(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", np.ones((9, 10), np.float32).repeat(100, 0), Grid(
        (10, 900), (1.0, 1.0), GRID.direction, GRID.origin))  # fmt: skip
    assert (tmp_path / "a.nii.gz").stat().st_size < 36_000 / 10
