"""The EchoNet-Dynamic reader: tables, outlines, masks, and prepared pairs."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_cases import beating, write_echonet

from regtool.data.echonet import read_echonet
from regtool.data.loading import load_image, load_labels
from regtool.data.readers import open_data
from regtool.data.tracings import area, fill, read_tracings
from regtool.engine.training.dataset import cache_key, open_splits, prepare_cases
from regtool.errors import InputError
from regtool.prepare.preparation import Preparation

HEADER = "FileName,X1,Y1,X2,Y2,Frame\n"


def test_pairs_and_splits_follow_the_tables(tmp_path: Path) -> None:
    names = write_echonet(tmp_path)
    pairs = open_data(f"echonet:{tmp_path}")
    assert [p.name for p in pairs] == names
    assert [p.split for p in pairs] == ["train", "val", "test"]
    pair = pairs[0]
    assert pair.moving.image == tmp_path / "Videos" / f"{names[0]}.avi"
    assert (pair.moving.frame, pair.fixed.frame) == (0, 6)  # ED moves, ES is fixed
    assert pair.moving.modality == "us" and pair.subject == names[0]
    train, val = open_splits([f"echonet:{tmp_path}"], None)
    assert [c.name for c in train + val] == names[:2]


def test_frames_and_masks(tmp_path: Path) -> None:
    write_echonet(tmp_path)
    pair = read_echonet(tmp_path)[1]
    frames, radii = beating(seed=1)
    areas = []
    for case, frame in ((pair.moving, 0), (pair.fixed, 6)):
        image = load_image(case)
        labels = load_labels(case, image)
        assert labels is not None and labels.grid == image.grid
        assert np.abs(image.array.astype(int) - frames[frame]).mean() < 2
        assert set(np.unique(labels.array)) == {0, 1}
        truth = np.pi * 1.4 * radii[frame] ** 2
        assert labels.array.sum() == pytest.approx(truth, rel=0.06)
        dark = image.array[labels.array == 1].mean()
        assert dark < 60 < image.array[labels.array == 0].mean()
        areas.append(labels.array.sum())
    assert areas[0] > areas[1]


def test_prepared_pairs(tmp_path: Path) -> None:
    write_echonet(tmp_path)
    pairs = read_echonet(tmp_path)
    preparation = Preparation(spacing=(None, None), size=(128, 128))
    store = prepare_cases(pairs, preparation, threads=2)
    item = store.items[0]
    assert len(store.items) == 3 and item.fixed.image.shape[-2:] == (128, 128)
    assert item.fixed.labels is not None and item.moving.labels is not None
    assert item.fixed.labels.sum() < item.moving.labels.sum()
    key = cache_key(pairs, preparation, None, 0)
    table = tmp_path / "VolumeTracings.csv"
    table.write_text(table.read_text() + "\n")
    assert cache_key(pairs, preparation, None, 0) != key
    assert pickle.loads(pickle.dumps(pairs)) == pairs


def test_end_diastole_is_the_larger_outline_whatever_the_order(tmp_path: Path) -> None:
    (name,) = write_echonet(tmp_path, ["TRAIN"])
    table = tmp_path / "VolumeTracings.csv"
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([first, *rows[21:], *rows[:21]]) + "\n")
    (pair,) = read_echonet(tmp_path)
    assert (pair.moving.frame, pair.fixed.frame) == (0, 6)
    assert list(read_tracings(table).outlines[name]) == [0, 6]


def test_videos_without_two_frames_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = write_echonet(tmp_path)
    table = tmp_path / "VolumeTracings.csv"
    rows = table.read_text().splitlines()
    keep = [r for r in rows if names[1] not in r and not (names[2] in r and r.endswith(",6"))]
    table.write_text("\n".join(keep) + "\n")
    with caplog.at_level(logging.WARNING):
        assert [p.name for p in read_echonet(tmp_path)] == names[:1]
    assert "2 of 3 videos have no two traced frames" in caplog.text


def test_tables_in_other_writings(tmp_path: Path) -> None:
    names = write_echonet(tmp_path)
    for table in (tmp_path / "FileList.csv", tmp_path / "VolumeTracings.csv"):
        table.write_bytes(b"\xef\xbb\xbf" + table.read_text().replace("\n", "\r\n").encode())
    text = (tmp_path / "FileList.csv").read_bytes()
    (tmp_path / "FileList.csv").write_bytes(text.replace(b",VAL", b",val"))
    assert [p.split for p in read_echonet(tmp_path)] == ["train", "val", "test"]
    assert [p.name for p in read_echonet(tmp_path)] == names


@pytest.mark.parametrize("name", ["FileList.csv", "VolumeTracings.csv", "Videos"])
def test_missing_parts_are_named(tmp_path: Path, name: str) -> None:
    write_echonet(tmp_path, ["TRAIN"])
    (tmp_path / name).rename(tmp_path / "gone")
    with pytest.raises(InputError, match=f"{name}: not there"):
        read_echonet(tmp_path)


def test_a_listed_video_must_be_there(tmp_path: Path) -> None:
    (name,) = write_echonet(tmp_path, ["TRAIN"])
    (tmp_path / "Videos" / f"{name}.avi").unlink()
    with pytest.raises(InputError, match=f"{name}.avi: no such video"):
        read_echonet(tmp_path)


BAD_LISTS = {
    "no column 'Split'": "FileName,EF\n0X1,50\n",
    "line 2: Split is 'external'": "FileName,Split\n0X1,EXTERNAL\n",
    "line 2: Split is ''": "FileName,Split\n0X1\n",
    "line 3: 0X1 is listed a second time": "FileName,Split\n0X1,TRAIN\n0X1,TEST\n",
    "line 2: '../0X1' is not the name": "FileName,Split\n../0X1,TRAIN\n",
    "line 2: '' is not the name": "FileName,Split\n,TRAIN\n",
    "lists no videos": "FileName,Split\n",
    "not readable as a CSV": 'FileName,Split\n"0X1,TRAIN\n',
}


@pytest.mark.parametrize("message", BAD_LISTS)
def test_bad_file_lists(tmp_path: Path, message: str) -> None:
    write_echonet(tmp_path, ["TRAIN"])
    (tmp_path / "FileList.csv").write_text(BAD_LISTS[message])
    with pytest.raises(InputError, match=message) as error:
        read_echonet(tmp_path)
    assert "FileList.csv" in str(error.value) and "\n" not in str(error.value)


BAD_TRACINGS = {
    "no column X1, Y1, X2, Y2 in": "FileName,X,Y,Frame\n0X1.avi,1,2,3\n",
    "no column FileName": "",
    "line 3: expected FileName": HEADER + "0X1.avi,1,2,3,4,5\n0X1.avi,1,2,3,x,5\n",
    "line 2: expected": HEADER + "0X1.avi,1,2,3\n",
    "line 2: expected ": HEADER + "0X1.avi,1,2,nan,4,5\n",
    "line 2: expected  *": HEADER + "0X1.avi,1,2,3,4,-5\n",
    "frame 5 of 0X1 has 2 chords": HEADER + "0X1.avi,1,2,3,4,5\n0X1.avi,1,2,3,4,5\n",
    "no tracings in": HEADER,
    "not readable as a CSV table": HEADER + "0X1.avi,\xff",
}


@pytest.mark.parametrize("message", BAD_TRACINGS)
def test_bad_tracings(tmp_path: Path, message: str) -> None:
    table = tmp_path / "VolumeTracings.csv"
    table.write_bytes(BAD_TRACINGS[message].encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        read_tracings(table)
    assert str(table) in str(error.value) and "\n" not in str(error.value)


def test_frames_that_do_not_exist(tmp_path: Path) -> None:
    (name,) = write_echonet(tmp_path, ["TRAIN"])
    table = tmp_path / "VolumeTracings.csv"
    table.write_text(table.read_text().replace(",6\n", ",60\n"))
    (pair,) = read_echonet(tmp_path)
    with pytest.raises(InputError, match=rf"{name}\.avi has frames 0 to 11, not 60"):
        load_image(pair.fixed)
    image = load_image(pair.moving)
    with pytest.raises(InputError, match=f"frame 3 of {name} is not traced"):
        read_tracings(table).mask(name, 3, image)


def test_tables_are_read_again_when_they_change(tmp_path: Path) -> None:
    write_echonet(tmp_path, ["TRAIN"])
    table = tmp_path / "VolumeTracings.csv"
    assert read_tracings(table) is read_tracings(table)
    before = read_tracings(table)
    table.write_text(table.read_text().replace(",6\n", ",7\n") + "\n")
    assert read_tracings(table) is not before


def test_fill_takes_the_border_and_cuts_at_the_image() -> None:
    square = np.array([[1, 1], [4, 1], [4, 3], [1, 3]])
    expected = np.zeros((6, 7), np.uint8)
    expected[1:4, 1:5] = 1
    np.testing.assert_array_equal(fill(square, (6, 7)), expected)
    np.testing.assert_array_equal(fill(square[::-1], (6, 7)), expected)
    assert area(square) == 6.0
    assert fill(square - 2, (6, 7)).sum() == 2 * 3
    assert fill(square + 100, (6, 7)).sum() == 0
    assert fill(square * 50 - 100, (6, 7)).sum() == 6 * 7


def inside(x: int, y: int, corners: list[tuple[int, int]]) -> bool:
    """Even-odd rule or on the border, one pixel at a time."""
    odd = False
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        between = min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2)
        if between and (x2 - x1) * (y - y1) == (y2 - y1) * (x - x1):
            return True
        if (y1 > y) != (y2 > y) and x < x1 + (x2 - x1) * (y - y1) / (y2 - y1):
            odd = not odd
    return odd


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 14), st.integers(-3, 12)), min_size=3, max_size=9))
def test_fill_agrees_with_the_definition(corners: list[tuple[int, int]]) -> None:
    expected = [[inside(x, y, corners) for x in range(12)] for y in range(10)]
    np.testing.assert_array_equal(fill(np.array(corners), (10, 12)), np.array(expected))
