"""Landmark files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regtool.errors import InputError
from regtool.imaging.points import read_points, write_points


def test_csv_keeps_its_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('label,x,y,z,comment\nA,1.5,-2,3,"left, upper"\nB,4,5,6,\n')
    marks = read_points(path)
    assert np.array_equal(marks.points, [[1.5, -2, 3], [4, 5, 6]])
    assert marks.names == ("A", "B")
    write_points(tmp_path / "b.csv", marks.points + 0.1, marks)
    again = read_points(tmp_path / "b.csv")
    assert np.array_equal(again.points, marks.points + 0.1)
    assert again.columns == marks.columns
    assert again.rows[0][4] == "left, upper"


def test_csv_made_in_memory_and_two_dimensions(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(5, 2))
    write_points(tmp_path / "a.csv", points)
    assert (tmp_path / "a.csv").read_text().startswith("x,y\n")
    marks = read_points(tmp_path / "a.csv")
    assert np.array_equal(marks.points, points)
    assert marks.names == ("1", "2", "3", "4", "5")
    (tmp_path / "b.csv").write_text("x,y,z,t\n1,2,0,0\n")
    assert read_points(tmp_path / "b.csv", ndim=2).points.tolist() == [[1, 2]]


def test_other_separators_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffX;Y;Z\n1;2;3\n\n")
    assert read_points(tmp_path / "a.csv").points.tolist() == [[1, 2, 3]]


def test_labels_with_marks_are_no_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# from a scanner\n\n#\nlabel,x,y,z\n#1,1,2,3\n#2,4,5,6\n", "utf-8")
    marks = read_points(path)
    assert marks.names == ("#1", "#2")
    assert marks.points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("x,y,z,label\r\n1,2,3,a\u2028b\r\n4,5,6,c\x0bd\r7,8,9,e".encode())
    assert read_points(path).names == ("a\u2028b", "c\x0bd", "e")


@pytest.mark.parametrize(("system", "sign"), [("LPS", 1), ("RAS", -1), ("0", -1), ("1", 1)])
def test_slicer_fiducials(tmp_path: Path, system: str, sign: int) -> None:
    path = tmp_path / "a.fcsv"
    path.write_text(
        f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        "1,10,20,30,0,0,0,1,1,1,0,F-1,,\n"
    )
    marks = read_points(path)
    assert marks.points.tolist() == [[10 * sign, 20 * sign, 30]]
    assert marks.names == ("F-1",)
    write_points(tmp_path / "b.fcsv", marks.points, marks)
    again = read_points(tmp_path / "b.fcsv")
    assert np.array_equal(again.points, marks.points)
    assert again.names == ("F-1",)
    path.write_text(f"# CoordinateSystem = {system}\n")
    with pytest.raises(InputError, match="no landmarks"):
        read_points(path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "empty"),
        ("\n\n", "no landmarks"),
        ("x,y,z\n", "no landmarks"),
        ("# of nobody\nlabel,x,y,z\n\n", "no landmarks"),
        ("1,2,3\n4,5,6\n", "column"),
        ("x,y,z\n#1,2,3\n", "line 2"),
        ("x,y,z\n1,2,three\n", "line 2"),
        ("x,y,z\n1,2,nan\n", "line 2"),
        ("x,y,z\n1,2\n", "line 2"),
        ("x,y,z\n1,2,3,4\n", "line 2"),
    ],
)
def test_bad_files_name_the_line(tmp_path: Path, content: str, word: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=word) as caught:
        read_points(path)
    assert "a.csv" in str(caught.value)


def test_missing_or_binary_or_flat(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="text"):
        read_points(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="column z"):
        read_points(tmp_path / "b.csv", ndim=3)
