"""What images, masks and options hold: emptiness is told, not registered without a word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import QUICK, Program, write_table
from registration_cases import make_grid, read_array, save

Pair = dict[str, Path]


def like(path: Path, values: np.ndarray, to: Path, shift: float = 0.0) -> Path:
    """``values`` as an image on the grid of another one, moved by ``shift`` mm along x."""
    image, given = sitk.GetImageFromArray(values), sitk.ReadImage(str(path))
    image.CopyInformation(given)
    image.SetOrigin((given.GetOrigin()[0] + shift, *given.GetOrigin()[1:]))
    sitk.WriteImage(image, str(to))
    return to


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_mask_without_anything_inside_is_refused(
    role: str, more: tuple[str, ...], tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    shape = read_array(tiny[role]).shape
    empty = like(tiny[role], np.zeros(shape, np.uint8), tmp_path / "empty.nii.gz")
    away = like(tiny[role], np.ones(shape, np.uint8), tmp_path / "away.nii.gz", 1e4)
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", *more)
    for mask, says in ((empty, "the mask is empty"), (away, "the mask does not lie on ")):
        ran = regtool(*args, f"--{role}-mask", mask)
        assert ran.code == 3 and f"{mask}: {says}" in ran.err
    assert not list(tmp_path.glob("out_*"))


def test_a_mask_on_another_grid_is_told(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    shape = read_array(tiny["fixed"]).shape
    other = like(tiny["fixed"], np.ones(shape, np.uint8), tmp_path / "other.nii.gz", 0.3)
    same = like(tiny["fixed"], np.ones(shape, np.uint8), tmp_path / "same.nii.gz")
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "--overwrite")
    wanted = f"{other}: not on the grid of the fixed image; placed by its own header, nearest voxel"
    assert wanted in regtool(*args, "--fixed-mask", other).ok().err
    assert "not on the grid" not in regtool(*args, "--fixed-mask", same).ok().err


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_constant_image_is_told(role: str, tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    flat = np.full_like(read_array(tiny[role]), 7)
    files = {**tiny, role: like(tiny[role], flat, tmp_path / "flat.nii.gz")}
    ran = regtool("register", *QUICK, files["fixed"], files["moving"]).ok()
    assert f"{files[role]}: is 7 everywhere; there is nothing to register" in ran.err
    assert "try --initial" not in ran.err


def test_beyond_the_moving_image_is_what_was_asked_for(regtool: Program, tmp_path: Path) -> None:
    """A CT that covers half of the fixed image, and a cohort, a repetition and a report of it."""
    grid, short = make_grid(size=(24, 20, 16)), make_grid(size=(24, 20, 8))
    rng = np.random.default_rng(0)
    fixed = save(tmp_path / "f.nii.gz", rng.normal(-500, 300, grid.shape).astype(np.float32), grid)
    moving = save(tmp_path / "m.nii.gz", rng.normal(-500, 300, short.shape).astype(np.float32),
                  short)  # fmt: skip
    args = ("register", *QUICK, fixed, moving)
    ran = regtool(*args, "-o", "zero_").ok()
    assert "of the warped image lie beyond" in ran.err and "--fill VALUE" in ran.err
    ran = regtool(*args, "-o", "air_", "--fill", "-1000", "--inverse", "--report", "p.html").ok()
    assert "beyond" not in ran.err
    zero, air = (read_array(tmp_path / f"{name}_Warped.nii.gz") for name in ("zero", "air"))
    beyond = zero == 0
    assert 0.2 < beyond.mean() < 0.8 and (air[beyond] == -1000).all()
    np.testing.assert_array_equal(air[~beyond], zero[~beyond])
    record = json.loads((tmp_path / "air_regtool.json").read_text())
    assert record["request"]["fill"] == -1000
    assert "fill" not in json.loads((tmp_path / "zero_regtool.json").read_text())["request"]
    found = json.loads(regtool("evaluate", "air_regtool.json", "--json").ok().out)["pairs"][0]
    for when in ("before", "after"):
        assert found[when]["ncc"] == pytest.approx(record["similarity"]["ncc"][when], abs=1e-6)
    assert "identical" in regtool("rerun", "air_regtool.json").ok().err
    write_table(tmp_path / "t.csv", [("p", {"fixed": fixed, "moving": moving})])
    regtool("register", *QUICK, "--pairs", "t.csv", "-o", "out", "--fill", "-1000").ok()
    np.testing.assert_array_equal(read_array(tmp_path / "out" / "p_Warped.nii.gz"), air)
    assert regtool(*args, "--fill", "inf", "-o", "x_").code == 2


def test_a_dry_run_knows_what_cannot_work(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    far = like(tiny["moving"], read_array(tiny["moving"]), tmp_path / "far.nii.gz", 1e4)
    args = ("register", "-m", "optimise", tiny["fixed"])
    needs = "option 'landmarks' (1.0) needs --fixed-points and --moving-points"
    for more in ((), ("--dry-run",)):
        ran = regtool(*args, far, *more)
        assert ran.code == 3 and "do not overlap" in ran.err
        ran = regtool(*args, tiny["moving"], "--set", "landmarks=1", *more)
        assert ran.code == 2 and needs in ran.err
        ran = regtool(*args, tiny["moving"], "--set", "window=4", *more)
        assert ran.code == 2 and "odd numbers" in ran.err
        ran = regtool(*args, tiny["moving"], "--set", "symmetric=true", "--set", "labels=1", *more)
        assert ran.code == 2 and "options of method 'optimise': symmetric registers" in ran.err
    regtool(*args, far, "--dry-run", "--initial", "com").ok()
    write_table(tmp_path / "t.csv", [("p", tiny)])
    pairs = ("register", "-m", "optimise", "--set", "labels=1", "--pairs", "t.csv", "-o", "out")
    needs = "p: option 'labels' (1.0) needs --fixed-labels and --moving-labels"
    for more in ((), ("--dry-run",)):
        ran = regtool(*pairs, *more)
        assert ran.code == 7 and needs in ran.err


def test_apply_fills_what_the_image_does_not_cover(regtool: Program, tmp_path: Path) -> None:
    grid, short = make_grid(size=(12, 10, 8)), make_grid(size=(12, 10, 4))
    image = save(tmp_path / "i.nii.gz", np.full(short.shape, 40, np.uint8), short)
    points = tmp_path / "p.csv"
    points.write_text("x,y,z\n0,0,0\n")
    reference = save(tmp_path / "r.nii.gz", np.ones(grid.shape, np.float32), grid)
    args = ("apply", image, "-t", "identity", "-r", reference, "--overwrite")
    for name, value in (("linear", -1000), ("bspline", -1000), ("nearest", 9), ("label", 9)):
        regtool(*args, "-n", name, "--fill", str(value), "-o", "o.nii.gz").ok()
        found = read_array(tmp_path / "o.nii.gz")
        assert set(np.unique(found.round(3))) == {value, 40}, name
    for name, value in (("nearest", "-1000"), ("label", "0.5"), ("linear", "nan")):
        ran = regtool(*args, "-n", name, "--fill", value)
        assert ran.code == 2 and f"--fill {value}: " in ran.err
    ran = regtool("apply", points, "-t", "identity", "--fill", "-1000")
    assert ran.code == 2 and "leave out --fill" in ran.err
    assert "-f: --fill VALUE" in regtool(*args, "-f", "-1000").err
