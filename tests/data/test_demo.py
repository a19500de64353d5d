"""The demo command, called through a program of its own so that it needs no other command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from regtool.cli import demo as module
from regtool.cli import messages
from regtool.data.phantoms.pair import VIEWS
from regtool.errors import OutputError
from regtool.imaging.points import read_points
from regtool.imaging.resample import transform_points
from regtool.imaging.transforms import read_field
from regtool.metrics.tre import tre

FILES = ["fixed.nii.gz", "fixed_labels.nii.gz", "moving.nii.gz", "moving_labels.nii.gz"]


def run(*arguments: str) -> Result:
    messages.install()
    app = typer.Typer(rich_markup_mode=None)
    app.command()(module.demo)
    return CliRunner().invoke(app, list(arguments))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_four_files_and_says_what_next(tmp_path: Path) -> None:
    folder = tmp_path / "new folder"
    result = run("--kind", "heart2d", "-o", str(folder))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "regtool register" in result.stderr
    assert f"'{folder / 'fixed.nii.gz'}'" in result.stderr  # quoted: the path has a space
    assert names(folder) == FILES


def test_json_names_files_and_labels(tmp_path: Path) -> None:
    result = run("--kind", "heart2d", "-o", str(tmp_path), "--seed", "3", "--json", "-q")
    facts = json.loads(result.stdout)
    assert result.stderr == ""
    assert facts["kind"] == "heart2d"
    assert facts["seed"] == 3
    assert facts["labels"] == {"1": "right ventricle", "2": "myocardium", "3": "left ventricle"}
    assert all(Path(facts[name.removesuffix(".nii.gz")]).is_file() for name in FILES)


def test_existing_files_stay_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "moving.nii.gz").write_text("mine")
    result = run("--kind", "heart2d", "-o", str(tmp_path))
    assert isinstance(result.exception, OutputError)
    assert "--overwrite" in str(result.exception)
    assert names(tmp_path) == ["moving.nii.gz"]
    assert (tmp_path / "moving.nii.gz").read_text() == "mine"
    assert run("--kind", "heart2d", "-o", str(tmp_path), "--overwrite").exit_code == 0
    assert names(tmp_path) == FILES


def test_default_goes_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--kind", "heart2d").exit_code == 0
    assert names(tmp_path) == FILES


def test_repetition_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert run("--kind", "heart2d", "-o", str(tmp_path / folder)).exit_code == 0
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_lung_comes_with_landmarks_and_the_true_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VIEWS, "lung", ((38, 31, 42), (8.0, 8.0, 8.0)))  # quick
    result = run("--kind", "lung", "-o", str(tmp_path), "--json")
    more = {"fixed_points.csv", "moving_points.csv", "truth_1Warp.nii.gz"}
    assert set(names(tmp_path)) == {*FILES, *more}
    assert f"--fixed-points {tmp_path / 'fixed_points.csv'}" in result.stderr
    facts = json.loads(result.stdout)
    assert facts["truth"] == str(tmp_path / "truth_1Warp.nii.gz")
    fixed, moving = (read_points(tmp_path / f"{side}_points.csv") for side in ("fixed", "moving"))
    mapped = transform_points(fixed.points, [read_field(tmp_path / "truth_1Warp.nii.gz")])
    assert tre(mapped, moving.points).max < 1e-3
    assert tre(fixed.points, moving.points).mean > 4


def test_unknown_kind_is_a_usage_error(tmp_path: Path) -> None:
    result = run("--kind", "kidney", "-o", str(tmp_path))
    assert result.exit_code == 2
    assert "heart2d" in result.stderr
