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
    assert "warning" not in ran.err and "fixed.nii.gz: the result has its own grid" in ran.err
    scale(warp, done2d, -8)  # folds
    ran = regtool("apply", done2d.files["fixed"], "-t", warp, "--inverse", "-o", "b.nii.gz").ok()
    assert "w.nii.gz: inverted numerically, residual" in ran.err
    assert ran.err.count("warning: ") == 1 and "no inverse exists" in ran.err


def test_the_wrong_order_of_a_registration_is_told(
    done2d: Case, moved: Path, regtool: Program
) -> None:
    prefix = str(moved).removesuffix("regtool.json")
    warp, affine = f"{prefix}1Warp.nii.gz", f"{prefix}0GenericAffine.mat"
    back = f"{prefix}1InverseWarp.nii.gz"
    fixed, moving = done2d.files["fixed"], done2d.files["moving"]
    right = f"did you mean -t {warp} -t {affine}, or -t {moved}?"
    for order in ((warp, affine), (affine, warp)):
        ran = regtool("apply", moving, "-t", order[0], "-t", order[1], "-o", "o.nii.gz",
                      "--overwrite").ok()  # fmt: skip
        wrong = order[0] == affine
        assert (right in ran.err) is wrong and ran.err.count("warning: ") == wrong
    right = f"did you mean -t [{affine},1] -t {back}, or -t {moved} --inverse?"
    for order in ((f"[{affine},1]", back), (back, f"[{affine},1]")):
        ran = regtool("apply", fixed, "-r", moving, "-t", order[0], "-t", order[1], "-o",
                      "o.nii.gz", "--overwrite").ok()  # fmt: skip
        wrong = order[0] == back
        assert (right in ran.err) is wrong and ran.err.count("warning: ") == wrong
    ran = regtool("apply", fixed, "-r", moving, "-t", back)
    assert ran.code == 2 and f"use -t [{affine},1] -t {back}, or -t {moved} --inverse" in ran.err


@pytest.mark.parametrize(
    ("name", "what"),
    [("image", "image"), ("labels", "labels"), ("points", "points"), ("copy", "image")],
)
def test_what_belongs_to_the_other_side_is_told(
    name: str, what: str, done2d: Case, regtool: Program, tmp_path: Path
) -> None:
    files = dict(done2d.files)
    if name == "copy":
        for side in ("fixed", "moving"):
            files[f"{side}_copy"] = shutil.copy(files[side], tmp_path / f"{side}_copy.nii.gz")
    back = [True, False] if name == "points" else [False, True]
    for side, way in zip(("moving", "fixed"), back, strict=True):
        subject = files[side if name == "image" else f"{side}_{name}"]
        out = "o.csv" if name == "points" else "o.nii.gz"
        more = ("-n", "label") if name == "labels" else ()
        rest = (*more, "-t", done2d.record, "-o", out, "--overwrite")
        for inverse in (False, True):
            ran = regtool("apply", subject, *rest, *(["--inverse"] if inverse else [])).ok()
            wrong = inverse is not way
            be = "are" if what.endswith("s") else "is"
            told = f"{subject}: {be} the {side} {what} of {done2d.record}; did you mean"
            assert (told in ran.err) is wrong, ran.err
            assert ran.err.count("warning: ") == wrong
            if wrong:
                assert ran.err.splitlines()[0].endswith("without --inverse?" if inverse else
                                                        "mean --inverse?")  # fmt: skip


def test_the_sides_of_the_way_back_and_of_what_is_warped_already(
    done2d: Case, regtool: Program
) -> None:
    affine, back = done2d.output("0GenericAffine.mat"), done2d.output("1InverseWarp.nii.gz")
    files, record = done2d.files, done2d.record
    way_back = ("-t", f"[{affine},1]", "-t", back)
    warped, rest = done2d.output("Warped.nii.gz"), ("-o", "o.nii.gz", "--overwrite")
    grid = ("-r", files["moving"])
    for subject, way, told in (
        (files["fixed"], (*grid, *way_back), ""),
        (files["moving"], (*grid, *way_back), f"is the moving image of {record}; did you mean -t "),
        (warped, ("-t", record, "--inverse"), ""),
        (warped, ("-t", record), f"is the warped image of {record}; did you mean --inverse?"),
    ):
        ran = regtool("apply", subject, *way, *rest).ok()
        assert told in ran.err and ran.err.count("warning: ") == bool(told), ran.err


def test_a_part_of_a_chain_beside_the_chain_is_told(
    done2d: Case, moved: Path, regtool: Program
) -> None:
    files = ("r_regtool.json", "r_Composite.h5", "r_1Warp.nii.gz", "r_0GenericAffine.mat")
    for whole in files[:2]:
        for part in files[2:]:
            ran = regtool("apply", done2d.files["moving"], "-t", whole, "-t", part, "-r",
                          done2d.files["fixed"], "-o", "o.nii.gz", "--overwrite").ok()  # fmt: skip
            assert f"warning: -t {part}: is in {whole}, too, and so is applied twice" in ran.err
            assert ran.err.count("warning: ") == 1
