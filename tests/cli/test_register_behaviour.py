"""``register`` as a command: messages, names of files, overwriting, rehearsals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import QUICK, RECORD, Case, Program, one_line, outputs
from registration_cases import read_array

Pair = dict[str, Path]


def test_success_says_little_and_nothing_on_stdout(tiny: Pair, regtool: Program) -> None:
    ran = regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_").ok()
    assert ran.out == ""
    assert [line.split()[1] for line in ran.err.splitlines()] == ["local", "folds:", "wrote"]
    assert "\x1b" not in ran.err and "\r" not in ran.err


def test_quiet_is_silent(tiny: Pair, regtool: Program) -> None:
    ran = regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "-q").ok()
    assert ran.out == ran.err == ""


def test_default_prefix(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    regtool("register", *QUICK, tiny["fixed"], tiny["moving"]).ok()
    assert (tmp_path / "moving_to_fixed_regtool.json").is_file()


def test_json_is_the_record(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--json", "-q")
    ran = regtool(*args).ok()
    assert json.loads(ran.out) == json.loads((tmp_path / RECORD).read_text("utf-8"))


def test_log_file(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "-q")
    regtool(*args, "--log-file", "run.log").ok()
    assert "wrote out_regtool.json" in (tmp_path / "run.log").read_text("utf-8")
    ran = regtool(*args, "--overwrite", "--log-file", "no/such/run.log")
    assert ran.code == 8
    one_line(ran.err)


def test_existing_outputs(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    regtool(*args, "--inverse").ok()
    before = (tmp_path / RECORD).read_bytes()
    ran = regtool(*args)
    assert ran.code == 8 and "--overwrite" in ran.err
    one_line(ran.err)
    assert (tmp_path / RECORD).read_bytes() == before
    assert "out_InverseWarped.nii.gz" in outputs(tmp_path)
    regtool(*args, "--overwrite").ok()
    assert "out_InverseWarped.nii.gz" not in outputs(tmp_path), "old and new never mix"
    assert json.loads((tmp_path / RECORD).read_text("utf-8"))["outputs"].keys() == {
        "Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat"
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["out.nii.gz", "out.nii", "OUT.NII.GZ", "out.json", "out.mat"])
def test_prefix_that_is_a_file_name(prefix: str, tiny: Pair, regtool: Program) -> None:
    ran = regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", prefix)
    assert ran.code == 2 and "prefix" in ran.err
    one_line(ran.err)


def test_folders(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """A missing folder is made, an existing one takes the files, a file in the way is refused."""
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o")
    regtool(*args, "new/deep/out_").ok()
    assert len(outputs(tmp_path / "new" / "deep")) == 4
    (tmp_path / "there").mkdir()
    regtool(*args, "there").ok()
    assert (tmp_path / "there" / "regtool.json").is_file()
    ran = regtool(*args, tiny["fixed"] / "out_")
    assert ran.code == 8 and "not a folder" in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    ran = regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "locked/out_")
    assert ran.code == 8 and "locked" in ran.err
    one_line(ran.err)


def test_unwritable_place(tiny: Pair, regtool: Program) -> None:
    """Where not even root can write."""
    ran = regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "/proc/regtool_")
    assert ran.code == 8
    one_line(ran.err)


def test_input_that_is_also_an_output(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    fixed = tiny["fixed"].rename(tmp_path / "out_Warped.nii.gz")
    before = fixed.read_bytes()
    args = ("register", *QUICK, fixed, tiny["moving"], "-o", "out_", "--overwrite")
    ran = regtool(*args)
    assert ran.code == 2 and "input as well as an output" in ran.err
    assert fixed.read_bytes() == before
    (tmp_path / "link.nii.gz").symlink_to(fixed)
    ran = regtool("register", *QUICK, "link.nii.gz", tiny["moving"], "-o", "out_", "--overwrite")
    assert ran.code == 2 and fixed.read_bytes() == before


def test_odd_paths(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """Spaces, unicode, ~ and symbolic links."""
    home = tmp_path / "ho me"
    home.mkdir()
    tiny["fixed"].rename(home / "Größe  é 心.nii.gz")
    (home / "link.nii.gz").symlink_to(tiny["moving"])
    args = ("register", *QUICK, "~/Größe  é 心.nii.gz", "~/link.nii.gz", "-o", "~/aus gabe é_")
    regtool(*args, "-q", env={"HOME": str(home)}).ok()
    record = home / "aus gabe é_regtool.json"
    assert json.loads(record.read_text("utf-8"))["outputs"]["1Warp.nii.gz"]["file"]
    args = ("apply", "~/link.nii.gz", "-t", "~/aus gabe é_regtool.json", "-o", "~/é ü.nii.gz")
    regtool(*args, env={"HOME": str(home)}).ok()
    assert (home / "é ü.nii.gz").is_file()
    args = ("jacobian", "~/aus gabe é_regtool.json")
    regtool(*args, env={"HOME": str(home)}).ok()
    assert (home / "aus gabe é_Jacobian.nii.gz").is_file()
    missing = regtool("register", *QUICK, "two  spaces.nii", tiny["moving"])
    assert "two  spaces.nii: no such file" in missing.err


def test_same_file_twice(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """An identity pair: no motion, and the image comes back."""
    args = ("register", *QUICK, "--set", "similarity=mse", tiny["fixed"], tiny["fixed"])
    regtool(*args, "-o", "out_").ok()
    field = read_array(tmp_path / "out_1Warp.nii.gz")
    assert np.abs(field).max() < 1e-3 * 2.0, "voxels of 2 mm"
    original = read_array(tiny["fixed"])
    warped = read_array(tmp_path / "out_Warped.nii.gz")
    assert np.abs(warped - original).max() < 1e-3 * np.ptp(original)


def test_two_runs_are_byte_identical(done2d: Case, regtool: Program, tmp_path: Path) -> None:
    for prefix in ("a_", "b_"):
        args = ("register", *QUICK, done2d.files["fixed"], done2d.files["moving"], "-o", prefix)
        regtool(*args, "--initial", "affine", "--inverse", "--composite").ok()
    names = [n for n in outputs(tmp_path, "a_") if not n.endswith(("json", "h5"))]
    assert len(names) == 5
    for name in names:
        one, other = tmp_path / name, tmp_path / f"b_{name[2:]}"
        assert one.read_bytes() == other.read_bytes(), name
    one, other = (sitk.ReadTransform(str(tmp_path / f"{p}_Composite.h5")) for p in "ab")
    assert one.TransformPoint((9.0, -22.0)) == other.TransformPoint((9.0, -22.0))


def test_dry_run_writes_nothing(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "new/out_", "--inverse")
    ran = regtool(*args, "--dry-run").ok()
    plan = json.loads(ran.out)
    assert plan["outputs"][-1] == "new/out_regtool.json"
    assert "new/out_InverseWarped.nii.gz" in plan["outputs"]
    assert plan["options"]["iterations"] == [3, 2]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_dry_run_opens_no_connection(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """Weights that are on the Hub only are named, not fetched; nobody is even asked."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        ran = regtool(
            "register", "-m", "voxelmorph", "-w", "hub:nobody/nothing@main", tiny["fixed"],
            tiny["moving"], "--dry-run",
            env={"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")},
        )  # fmt: skip
        with pytest.raises(TimeoutError):
            server.accept()
    assert json.loads(ran.ok().out)["weights"]["source"] == "hub"
