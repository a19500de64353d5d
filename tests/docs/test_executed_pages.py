"""Pages with commands: every one of them is run, in the page's order."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from doc_blocks import Reader
from warm_cli import WarmProcess


@pytest.fixture
def reader(warm: WarmProcess, tmp_path: Path) -> Reader:
    """Somebody in an empty folder."""
    return Reader(tmp_path, warm)


def test_first_steps(reader: Reader) -> None:
    reader.follow("install.md")
    names = {path.name for path in reader.folder.iterdir()}
    assert {"moving_to_fixed_regtool.json", "seen.html", "labels_on_fixed.nii.gz"} <= names
    assert "mine_regtool.json" not in names  # --dry-run
    better = json.loads((reader.folder / "better_regtool.json").read_text(encoding="utf-8"))
    assert {"refine", "topology"} <= set(better)


@pytest.fixture(scope="module")
def clinic(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Somebody who has followed the page about own data."""
    reader = Reader(tmp_path_factory.mktemp("clinic"), warm)
    reader.follow("tutorial/data.md")
    return reader


def test_your_data(clinic: Reader) -> None:
    with (clinic.folder / "clinic.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["split"] for row in rows] == ["train", "train", "val"]
    assert (clinic.folder / "runs/clinic/weights/voxelmorph-acdc-2d/config.json").is_file()
    assert len(list((clinic.folder / "registered").glob("*_regtool.json"))) == 3


def test_a_reader_of_one_s_own(clinic: Reader) -> None:
    """What the page's reader lists, with the setting that the page gives it."""
    record = clinic.folder / "by_reader" / "patient01_regtool.json"
    request = json.loads(record.read_text(encoding="utf-8"))["request"]
    assert Path(request["fixed"]).parts[-2:] == ("patient01", "ed.nii.gz")
    assert Path(request["moving"]).parts[-2:] == ("patient01", "es.nii.gz")


def test_a_clinic_with_a_missing_file_is_read_without_it(clinic: Reader) -> None:
    image = clinic.folder / "clinic" / "patient02" / "es.nii.gz"
    image.rename(image.with_name("elsewhere.nii.gz"))
    done = clinic.run("python clinic_pairs.py clinic fewer.csv")
    assert done is not None
    assert "left out patient02" in done.err
    assert len((clinic.folder / "fewer.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_simpleitk_reads_what_geometry_says(reader: Reader) -> None:
    reader.follow("geometry.md")  # its Python compares
    assert (reader.folder / "out_regtool.json").is_file()
