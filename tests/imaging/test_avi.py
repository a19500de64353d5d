"""Reading of Motion-JPEG AVI files: every form of the container, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from video_cases import avi, beating, chunk, headers, jpeg, listing, without_huffman_tables

from regtool.errors import InputError
from regtool.imaging.avi import open_video
from regtool.imaging.reading import read_frame, read_image

SERIES = ("scalar", "series")
FRAMES, _ = beating(5)
JPEGS = [jpeg(frame) for frame in FRAMES]
SIZE = (112, 112)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "video.avi"
    path.write_bytes(content)
    return path


def test_frames_are_a_series_of_luma(tmp_path: Path) -> None:
    volume = read_image(written(tmp_path, avi(JPEGS)), SERIES)
    assert (volume.kind, volume.array.shape, volume.dtype) == ("series", (5, 112, 112), np.uint8)
    assert np.abs(volume.array.astype(int) - FRAMES).max() <= 12  # what JPEG loses
    assert np.abs(volume.array.astype(int) - FRAMES).mean() < 2
    assert volume.grid.size == SIZE and volume.grid.spacing == (1.0, 1.0)
    assert volume.header.units == "unknown" and volume.header.time_step == pytest.approx(0.02)


@pytest.mark.parametrize("writer", ["opencv", "ffmpeg"])
def test_files_of_real_writers(writer: str) -> None:
    """Three frames of 2x + 4y + 20t, written by OpenCV as EchoNet-Dynamic's were.

    One by OpenCV's own Motion-JPEG writer, one by its FFmpeg.
    """
    volume = read_image(Path(__file__).parent / "videos" / f"{writer}.avi", SERIES)
    t, y, x = np.mgrid[:3, :32, :48]
    assert volume.array.shape == (3, 32, 48) and volume.header.time_step == pytest.approx(0.02)
    assert np.abs(volume.array - (2.0 * x + 4 * y + 20 * t)).max() < 8


def test_one_frame_is_the_frame_of_the_series(tmp_path: Path) -> None:
    path = written(tmp_path, avi(JPEGS))
    series = read_image(path, SERIES)
    for number in (0, 4):
        frame = read_frame(path, number)
        assert frame.kind == "scalar" and frame.grid == series.grid
        np.testing.assert_array_equal(frame.array, series.array[number])
    for number in (5, -1):
        with pytest.raises(InputError, match="has frames 0 to 4, not"):
            read_frame(path, number)


def test_only_the_wanted_frame_is_decoded(tmp_path: Path) -> None:
    path = written(tmp_path, avi([JPEGS[0], JPEGS[1][:40], JPEGS[2]]))
    np.testing.assert_array_equal(
        read_frame(path, 2).array, read_frame(written(tmp_path, avi(JPEGS)), 2).array
    )


def test_a_wide_image_keeps_its_axes(tmp_path: Path) -> None:
    frame = np.zeros((16, 48), np.uint8)
    frame[:8, :16] = 200
    volume = read_frame(written(tmp_path, avi([jpeg(frame, grey=True)], (48, 16))), 0)
    assert volume.grid.size == (48, 16)
    assert volume.array[2, 4] > 190 and volume.array[2, 40] < 10 and volume.array[12, 4] < 10


def test_standard_huffman_tables_are_assumed(tmp_path: Path) -> None:
    bare = [without_huffman_tables(data) for data in JPEGS]
    assert b"\xff\xc4" not in bare[0]
    expected = read_image(written(tmp_path, avi(JPEGS)), SERIES).array
    np.testing.assert_array_equal(read_image(written(tmp_path, avi(bare)), SERIES).array, expected)


def test_an_empty_frame_repeats_the_one_before(tmp_path: Path) -> None:
    array = read_image(written(tmp_path, avi([JPEGS[0], b"", b"", JPEGS[1]])), SERIES).array
    np.testing.assert_array_equal(array[2], array[0])
    assert (array[3] != array[0]).any()


def test_sound_records_and_a_second_part(tmp_path: Path) -> None:
    one, two, three = (chunk(b"01dc", data) for data in JPEGS[:3])
    sound, index = chunk(b"00wb", b"\1" * 33), chunk(b"ix01", b"\0" * 24)
    first = listing(
        b"AVI ",
        headers(3, SIZE, audio=True),
        listing(b"INFO", chunk(b"ISFT", b"writer")),
        listing(b"movi", index, listing(b"rec ", sound, one), listing(b"rec ", sound, two)),
        name=b"RIFF",
    )
    second = listing(b"AVIX", listing(b"movi", three), name=b"RIFF")
    path = written(tmp_path, first + second + b"\0" * 50)
    assert len(open_video(path).frames) == 3
    np.testing.assert_array_equal(
        read_frame(path, 2).array, read_frame(written(tmp_path, avi(JPEGS)), 2).array
    )


def test_a_video_is_no_image(tmp_path: Path) -> None:
    path = written(tmp_path, avi(JPEGS))
    with pytest.raises(InputError, match=r"series of frames of size 112×112×5.*choose one frame"):
        read_image(path)


def one_line(error: pytest.ExceptionInfo[InputError], path: Path) -> None:
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, part: float) -> None:
    content = avi(JPEGS)
    path = written(tmp_path, content[: int(len(content) * part)])
    with pytest.raises(InputError, match="cut off") as error:
        read_frame(path, 0)
    one_line(error, path)


DAMAGED = {
    "codec 'XVID'": avi([b"\0\0\1\xb6" + b"\7" * 50] * 2, codec=b"XVID"),
    "without a frame": avi([]),
    "frame 0 is damaged .*truncated": avi([JPEGS[0][:1000]]),
    "frame 0 is damaged": avi([JPEGS[0][:2] + b"\0" * 300]),
    "frame 0 is 112×112, but the header says 112×224": avi(JPEGS, (112, 224)),
    "frames are 0×112": avi(JPEGS, (0, 112)),
    "frames are 9000000×112": avi(JPEGS, (9_000_000, 112)),
    "stream header is too short": listing(
        b"AVI ", listing(b"hdrl", listing(b"strl", chunk(b"strh", b"vidsMJPG"))), name=b"RIFF"
    ),
}


@pytest.mark.parametrize("message", DAMAGED)
def test_damage_is_one_clear_line(tmp_path: Path, message: str) -> None:
    path = written(tmp_path, DAMAGED[message])
    with pytest.raises(InputError, match=message) as error:
        read_frame(path, 0)
    one_line(error, path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    content = b""
    for _ in range(3000):
        content = listing(b"rec ", content)
    path = written(tmp_path, listing(b"AVI ", listing(b"movi", content), name=b"RIFF"))
    with pytest.raises(InputError, match="too deeply"):
        read_frame(path, 0)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 400) | st.integers(0, 2**16), st.integers(0, 255)),
        min_size=1,
        max_size=12,
    )
)
def test_no_damage_is_a_crash(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(avi(JPEGS[:2]))
    for at, value in changes:
        content[at % len(content)] = value
    path = written(tmp_path, bytes(content))
    try:
        volume = read_image(path, SERIES)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert volume.array.dtype == np.uint8
