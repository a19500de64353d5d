"""``apply`` and ``jacobian`` of a record: its files must be the ones that it is about."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_cases import Case, Program, one_line
from registration_cases import read_array, save


@pytest.fixture
def moved(done2d: Case, tmp_path: Path) -> Path:
    """The files of a registration with an inverse, copied to a folder where they may change."""
    for path in done2d.record.parent.glob("r_*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "r_regtool.json"


def scale(path: Path, case: Case, factor: float) -> None:
    """Make another field of one in a file."""
    save(path, factor * read_array(path), case.fixed, vector=True)


@pytest.mark.parametrize(
    ("role", "refused"),
    [("1Warp.nii.gz", (0, 1)), ("0GenericAffine.mat", (0, 1, 2)), ("1InverseWarp.nii.gz", (2,))],
)
def test_a_file_that_has_changed_is_refused_where_it_is_used(
    role: str, refused: tuple[int, ...], done2d: Case, moved: Path, regtool: Program
) -> None:
    path = moved.with_name(f"r_{role}")
    if role.endswith(".mat"):
        shutil.copy(done2d.output("Composite.h5"), path)
    else:
        scale(path, done2d, 0.5)
    fixed, moving = done2d.files["fixed"], done2d.files["moving"]
    commands = (
        ("apply", moving, "-t", moved, "-o", "out.nii.gz"),
        ("jacobian", moved, "-o", "out.nii.gz"),
        ("apply", fixed, "-t", moved, "--inverse", "-o", "out.nii.gz"),
    )
    for number, command in enumerate(commands):
        ran = regtool(*command)
        if number in refused:
            assert ran.code == 3
            assert f"{path}: has changed since {moved} was written; register again" in ran.err
            one_line(ran.err)
        else:
            ran.ok()
            (moved.parent / "out.nii.gz").unlink()


def test_a_numeric_inverse_is_worth_a_warning_only_where_it_is_not_exact(
    done2d: Case, regtool: Program, tmp_path: Path
) -> None:
    warp = tmp_path / "w.nii.gz"
    shutil.copy(done2d.output("1Warp.nii.gz"), warp)
    ran = regtool("apply", done2d.files["fixed"], "-t", warp, "--inverse", "-o", "a.nii.gz").ok()
    assert "regtool: w.nii.gz: inverted numerically, residual" in ran.err.replace(
        f"{tmp_path}/", ""
    )
    assert "warning" not in ran.err
    scale(warp, done2d, -8)  # folds
    ran = regtool("apply", done2d.files["fixed"], "-t", warp, "--inverse", "-o", "b.nii.gz").ok()
    assert "w.nii.gz: inverted numerically, residual" in ran.err
    assert ran.err.count("warning: ") == 1 and "no inverse exists" in ran.err
