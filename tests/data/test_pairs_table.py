"""The table of pairs: paths, defaults, and errors that name line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from regtool.data.pairs_table import read_pairs
from regtool.data.readers import open_data
from regtool.errors import InputError, UsageError


def write(folder: Path, text: str, name: str = "pairs.csv", encoding: str = "utf-8") -> Path:
    for stem in "abcdef":
        (folder / f"{stem}.nii.gz").touch()
    (folder / "lm.csv").touch()
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "a.nii.gz").touch()
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path


def test_all_columns(tmp_path: Path) -> None:
    table = write(
        tmp_path,
        "name,fixed,moving,fixed_labels,moving_labels,fixed_mask,moving_mask,fixed_points,"
        "moving_points,split,subject,age\n"
        "one,a.nii.gz,b.nii.gz,c.nii.gz,d.nii.gz,e.nii.gz,f.nii.gz,lm.csv,lm.csv,VAL,s1,63\n",
    )
    (pair,) = read_pairs(table)
    assert (pair.name, pair.split, pair.subject) == ("one", "val", "s1")
    assert pair.fixed.image == tmp_path / "a.nii.gz"
    assert pair.fixed.labels == tmp_path / "c.nii.gz"
    assert pair.moving.mask == tmp_path / "f.nii.gz"
    assert pair.moving.points == tmp_path / "lm.csv"


def test_minimal_table_with_bom_crlf_and_absolute_path(tmp_path: Path) -> None:
    text = f"Fixed , moving\r\na.nii.gz,{tmp_path / 'b.nii.gz'}\r\n\r\n"
    (pair,) = read_pairs(write(tmp_path, text, encoding="utf-8-sig"))
    assert pair.name == "b_to_a"
    assert pair.moving.image == tmp_path / "b.nii.gz"
    assert pair.split == "train"


def test_tab_separated(tmp_path: Path) -> None:
    table = write(tmp_path, "fixed\tmoving\na.nii.gz\tb.nii.gz\n", "pairs.tsv")
    assert open_data(str(table)) == open_data(f"pairs:{table}")


def test_made_up_names_are_unique(tmp_path: Path) -> None:
    text = "fixed,moving,name\nb.nii.gz,a.nii.gz,\nb.nii.gz,sub/a.nii.gz,\nc.nii.gz,d.nii.gz,\n"
    assert [p.name for p in read_pairs(write(tmp_path, text))] == [
        "a_to_b_0001", "a_to_b_0002", "d_to_c",
    ]  # fmt: skip
    text = "fixed,moving,name\nb.nii.gz,a.nii.gz,\nc.nii.gz,d.nii.gz,A_to_b\n"
    assert [p.name for p in read_pairs(write(tmp_path, text))] == ["a_to_b_0001", "A_to_b"]


def test_pairs_that_share_an_image_are_one_subject(tmp_path: Path) -> None:
    text = "fixed,moving\na.nii.gz,b.nii.gz\nc.nii.gz,d.nii.gz\nb.nii.gz,e.nii.gz\n"
    one, two, three = read_pairs(write(tmp_path, text))
    assert one.subject == three.subject != two.subject
    assert one.split == three.split
    assert {one.split, two.split} == {"train", "val"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pairs"),
        ("fixed,moving\n", "no pairs"),
        ("fixed;moving\na.nii.gz;b.nii.gz\n", "commas"),
        ("fixed\na.nii.gz\n", "no column 'moving'"),
        ("fixed,moving,fixed_label\n", "did you mean 'fixed_labels'"),
        ("fixed,moving,fixed\n", "twice"),
        ("fixed,moving\na.nii.gz,\n", "line 2, column moving: empty"),
        ("fixed,moving\na.nii.gz,b.nii.gz\n\nx.nii,b.nii.gz\n", "line 4, column fixed: no such"),
        ("fixed,moving\na.nii.gz,b.nii.gz,c.nii.gz\n", "line 2: 3 cells"),
        ("fixed,moving,split\na.nii.gz,b.nii.gz,valid\n", "line 2, column split: 'valid'"),
        ("fixed,moving,name\na.nii.gz,b.nii.gz,x/y\n", "line 2, column name"),
        ("fixed,moving,name\na.nii.gz,b.nii.gz,..\n", "line 2, column name"),
        (
            "fixed,moving,name\na.nii.gz,b.nii.gz,x\nc.nii.gz,d.nii.gz,X\n",
            "line 3, column name: 'X' is also the name of line 2",
        ),
        (
            "fixed,moving,subject,split\na.nii.gz,b.nii.gz,s,val\nb.nii.gz,a.nii.gz,s,train\n",
            "line 3, column split: subject 's' is train here but val in line 2",
        ),
        ('fixed,moving\n"a.nii.gz"x,b.nii.gz\n', "line 2: malformed"),
    ],
)
def test_errors_name_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_pairs(write(tmp_path, text))
    assert "pairs.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such table"):
        read_pairs(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"fixed,moving\n\xe9.nii,b.nii\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_pairs(tmp_path / "latin.csv")


def test_unknown_reader(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="acdc:"):
        open_data("cardiac:/somewhere")
    with pytest.raises(UsageError, match="name its format"):
        open_data(str(tmp_path))
    with pytest.raises(UsageError, match="acdc"):
        open_data("acdc")
