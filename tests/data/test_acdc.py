"""The ACDC reader on both layouts (empty files: a reader looks at names only)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from regtool.data.acdc import read_acdc
from regtool.data.cases import assign_splits, only
from regtool.errors import InputError


def release_patient(folder: Path, ed: int = 1, es: int = 12, frames: bool = True) -> Path:
    folder.mkdir(parents=True)
    name = folder.name
    (folder / "Info.cfg").write_text(f"ED: {ed}\nES: {es}\nGroup: DCM\nHeight: 184.0\n")
    (folder / f"{name}_4d.nii.gz").touch()
    for frame in (ed, es) if frames else ():
        (folder / f"{name}_frame{frame:02d}.nii.gz").touch()
        (folder / f"{name}_frame{frame:02d}_gt.nii.gz").touch()
    return folder


def named_patient(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for phase in ("ED", "ED_gt", "ES", "ES_gt"):
        (folder / f"{folder.name}_{phase}.nii.gz").touch()
    return folder


def test_release_layout_follows_info_cfg(tmp_path: Path) -> None:
    folder = release_patient(tmp_path / "training" / "patient001", ed=1, es=9)
    release_patient(tmp_path / "testing" / "patient101", ed=2, es=13)
    first, second = read_acdc(tmp_path)
    assert first.moving.image == folder / "patient001_frame01.nii.gz"
    assert first.fixed.image == folder / "patient001_frame09.nii.gz"
    assert first.fixed.labels == folder / "patient001_frame09_gt.nii.gz"
    assert (first.name, first.subject, first.split) == ("patient001", "patient001", "train")
    assert second.split == "test"
    assert second.moving.image.name == "patient101_frame02.nii.gz"


def test_flat_release_keeps_the_official_testing_patients_apart(tmp_path: Path) -> None:
    for number in (*range(90, 101), *range(101, 104)):
        release_patient(tmp_path / f"patient{number:03d}")
    pairs = read_acdc(tmp_path)
    assert Counter(p.split for p in pairs) == {"train": 10, "val": 1, "test": 3}
    assert {p.name for p in only(pairs, "test")} == {"patient101", "patient102", "patient103"}
    assert pairs == read_acdc(str(tmp_path))


def test_missing_frames_are_taken_from_the_cine(tmp_path: Path) -> None:
    release_patient(tmp_path / "patient007", ed=1, es=11, frames=False)
    (pair,) = read_acdc(tmp_path)
    assert pair.fixed.image.name == "patient007_4d.nii.gz"
    assert (pair.moving.frame, pair.fixed.frame) == (0, 10)
    assert pair.fixed.labels is None


def test_named_phases_with_index(tmp_path: Path) -> None:
    for number in (2, 3):
        named_patient(tmp_path / f"patient{number:03d}")
    index = {"patient002": {"split": "val"}, "patient003": {"split": "train"}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    pairs = read_acdc(tmp_path)
    assert [p.split for p in pairs] == ["val", "train"]
    assert pairs[0].moving.image.name == "patient002_ED.nii.gz"
    assert pairs[0].fixed.image.name == "patient002_ES.nii.gz"


@pytest.mark.parametrize("text", ["{", "[]", '{"patient002": {"split": "valid"}}', "{}"])
def test_bad_index_is_named(tmp_path: Path, text: str) -> None:
    named_patient(tmp_path / "patient002")
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        read_acdc(tmp_path)


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_acdc(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no patientNNN folders"):
        read_acdc(tmp_path)
    folder = tmp_path / "patient001"
    folder.mkdir()
    with pytest.raises(InputError, match=r"Info\.cfg"):
        read_acdc(tmp_path)
    (folder / "Info.cfg").write_text("ED: 1\nES: one\n")
    with pytest.raises(InputError, match="no line 'ES: N'"):
        read_acdc(tmp_path)
    (folder / "Info.cfg").write_text("ED: 1\nES: 12\n")
    with pytest.raises(InputError, match="ES is missing"):
        read_acdc(tmp_path)


def test_same_patient_twice_is_refused(tmp_path: Path) -> None:
    release_patient(tmp_path / "training" / "patient001")
    release_patient(tmp_path / "testing" / "patient001")
    with pytest.raises(InputError, match="also at"):
        read_acdc(tmp_path)


def test_splits_depend_on_names_only() -> None:
    names = [f"s{i}" for i in range(30)]
    splits = assign_splits(names, val=0.1, test=0.2)
    assert Counter(splits.values()) == {"train": 21, "val": 3, "test": 6}
    assert assign_splits(reversed(names * 2), val=0.1, test=0.2) == splits
    assert assign_splits(["a"]) == {"a": "train"}
    assert sorted(assign_splits(["a", "b"]).values()) == ["train", "val"]


def test_real_acdc(shared_data: Path) -> None:
    pairs = read_acdc(shared_data / "acdc")
    assert Counter(p.split for p in pairs) == {"train": 70, "val": 10}
    assert all(p.fixed.labels and p.moving.labels for p in pairs)
