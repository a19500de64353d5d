"""``register`` as a command: options, paths, refusals, exit codes and messages."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import QUICK, Case, Program
from registration_cases import make_grid, read_array, save, transform, write_pair

Pair = dict[str, Path]
RECORD = "out_regtool.json"


def outputs(folder: Path, prefix: str = "out_") -> list[str]:
    """What a run left in a folder: final files, and temporary ones."""
    return sorted(p.name for p in folder.iterdir() if p.name.startswith((prefix, ".regtool")))


def one_line(err: str) -> None:
    assert err.startswith("regtool: error: ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


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


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("-m", "optimize"), 2, "did you mean 'optimise'?"),
        (("-m", "nonsense-of-all-sorts"), 2, "regtool methods"),
        (("--set", "iteration=3"), 2, "did you mean 'iterations'?"),
        (("--set", "iterations=many"), 2, "iterations"),
        (("--set", "window"), 2, "name=value"),
        (("--set", "rate=-1"), 2, "rate"),
        (("--initial", "rigit"), 3, "rigit"),
        (("--initial", "none.mat"), 3, "none.mat: no such file"),
        (("--slices", "z"), 2, "no slices"),
        (("--topology", "mend"), 2, "mend"),
        (("--device", "gpu"), 2, "choose auto, cpu, cuda or cuda:N"),
        (("--precision", "fp8"), 2, "choose fp32, bf16 or fp16"),
        (("--precision", "fp16", "--device", "cpu"), 6, "fp16"),
        (("--threads", "0"), 2, "--threads"),
        (("--seed", "-1"), 2, "--seed"),
        (("--seed", "99999999999999999999"), 2, "--seed"),
        (("--fixed-mask", "none.nii.gz"), 3, "none.nii.gz: no such file"),
        (("--fixed-points", "none.csv"), 3, "none.csv: no such file"),
        (("--fixed-labels", "moving.nii.gz"), 3, "not a label map"),
        (("--weights", "none.safetensors"), 4, "none.safetensors"),
        (("-m", "voxelmorph", "--fixed-mask", "fixed_labels.nii.gz"), 2, "does not use masks"),
        (("--dev", "cpu"), 2, "--dev"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_refusals(
    arguments: tuple[str, ...], code: int, says: str, dry: bool, tiny: Pair, regtool: Program,
    tmp_path: Path,
) -> None:  # fmt: skip
    method = () if "-m" in arguments else QUICK[:2]
    extra = ("--dry-run",) if dry else ()
    args = ("register", "fixed.nii.gz", "moving.nii.gz", "-o", "out_", *method, *arguments, *extra)
    ran = regtool(*args)
    assert ran.code == code, ran.err
    assert says in ran.err
    assert ran.out == "" and "Traceback" not in ran.err
    assert outputs(tmp_path) == []


def test_missing_cuda(tiny: Pair, regtool: Program) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    ran = regtool(*args, "--device", "cuda")
    assert ran.code == 6 and "--device cpu" in ran.err
    assert regtool(*args, env={"REGTOOL_DEVICE": "cuda:1"}).code == 6
    ran = regtool("apply", tiny["moving"], "-r", tiny["fixed"], "-t", "x", "--device", "cuda")
    assert ran.code == 6
    regtool(*args, "--device", "auto").ok()


def test_threads_from_the_environment(tiny: Pair, regtool: Program) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    assert regtool(*args, env={"REGTOOL_THREADS": "none"}).code == 2
    regtool(*args, env={"REGTOOL_THREADS": "2"}).ok()


def test_bad_images(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    fixed = tiny["fixed"]
    (tmp_path / "text.nii").write_text("hello")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "cut.nii.gz").write_bytes(fixed.read_bytes()[:-100])
    (tmp_path / "folder.nii").mkdir()
    array = read_array(fixed)
    four = nib.Nifti1Image(np.stack([array.T] * 3)[:, :, :, None].transpose(1, 2, 3, 0), np.eye(4))
    four.to_filename(tmp_path / "four.nii.gz")
    grid3 = make_grid("identity", (8, 9, 5), (2.0, 2.0, 2.0))
    save(tmp_path / "three.nii.gz", np.zeros(grid3.shape, np.float32), grid3)
    for name in ("missing", "text", "empty", "cut", "folder", "four", "three"):
        path = next(tmp_path.glob(f"{name}.nii*"), tmp_path / "missing.nii")
        for args in ((path, fixed), (fixed, path)):
            ran = regtool("register", *QUICK, *args, "-o", "out_")
            assert ran.code == 3, (name, ran.err)
            assert path.name in ran.err
            one_line(ran.err)
    assert "choose one frame" in regtool("register", *QUICK, "four.nii.gz", fixed).err
    assert outputs(tmp_path) == []


def test_no_overlap(regtool: Program, tmp_path: Path) -> None:
    fixed = make_grid("identity", (32, 28), (2.0, 2.0))
    far = make_grid("identity", (32, 28), (2.0, 2.0), (400.0, 0.0))
    files = write_pair(tmp_path, fixed, far, transform(2))
    args = ("register", *QUICK, files["fixed"], files["moving"], "-o", "out_")
    ran = regtool(*args)
    assert ran.code == 3
    assert "--initial com" in ran.err and "fixed.nii.gz" in ran.err
    one_line(ran.err)
    assert outputs(tmp_path) == []
    regtool(*args, "--initial", "com").ok()


def test_warnings_come_once(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """NaN voxels: one sentence on stderr, the same one in the record, and a finite result."""
    array = read_array(tiny["moving"])
    array[3:6, 4:8] = np.nan
    array[10, 10] = np.inf
    save(tmp_path / "nan.nii.gz", array, make_grid("identity", (32, 28), (2.0, 2.0)))
    ran = regtool("register", *QUICK, tiny["fixed"], "nan.nii.gz", "-o", "out_").ok()
    said = [line for line in ran.err.splitlines() if "warning" in line]
    assert len([line for line in said if "13 NaN or infinite" in line]) == 1
    record = json.loads((tmp_path / RECORD).read_text("utf-8"))
    assert len([w for w in record["warnings"] if "13 NaN" in w]) == 1
    assert record["moving"]["nonfinite"] == 13
    assert np.isfinite(read_array(tmp_path / "out_Warped.nii.gz")).all()
    assert np.isfinite(read_array(tmp_path / "out_1Warp.nii.gz")).all()


@pytest.mark.parametrize("which", ["fixed", "moving", "both"])
@pytest.mark.parametrize("initial", ["none", "com"])
def test_constant_images(
    which: str, initial: str, tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    flat = save(tmp_path / "flat.nii.gz", np.full(grid.shape, 7.0, np.float32), grid)
    fixed = flat if which != "moving" else tiny["fixed"]
    moving = flat if which != "fixed" else tiny["moving"]
    args = ("register", *QUICK, fixed, moving, "-o", "out_", "--initial", initial, "--json")
    ran = regtool(*args).ok()
    assert np.isfinite(read_array(tmp_path / "out_1Warp.nii.gz")).all()
    assert json.loads(ran.out)["jacobian"]["count"] == 0


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float64])
def test_types_with_a_slope(dtype: type, tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    truth = read_array(tiny["moving"])
    stored = np.round(truth / np.ptp(truth) * 100).astype(dtype)
    image = nib.Nifti1Image(stored.T, nib.load(tiny["moving"]).affine, dtype=dtype)
    image.header.set_slope_inter(2.0, -5.0)
    image.to_filename(tmp_path / "typed.nii.gz")
    args = ("register", *QUICK, tiny["fixed"], "typed.nii.gz", "-o", "out_", "--json")
    record = json.loads(regtool(*args).ok().out)
    assert record["moving"]["type"] == np.dtype(dtype).name
    warped = read_array(tmp_path / "out_Warped.nii.gz")
    assert warped.min() > -5.01 and 150 < warped.max() < 195.01
    assert warped.dtype == (np.float64 if dtype is np.float64 else np.float32)


def test_fail_if_worse(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    far = tmp_path / "away.tfm"
    shift = sitk.TranslationTransform(2, (14.0, 9.0))
    sitk.WriteTransform(shift, str(far))
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--initial", far)
    ran = regtool(*args, "--fail-if-worse")
    assert ran.code == 7
    assert "nothing was written" in ran.err
    one_line(ran.err)
    assert outputs(tmp_path) == []
    ran = regtool(*args).ok()
    assert ran.err.count("the similarity got worse") == 1


def test_initial_file_is_used_and_recorded(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    sitk.WriteTransform(sitk.TranslationTransform(2, (1.0, -1.0)), str(tmp_path / "t.tfm"))
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--json")
    record = json.loads(regtool(*args, "--initial", "t.tfm").ok().out)
    assert record["affine"] == [[1, 0, 1], [0, 1, -1], [0, 0, 1]]
    assert record["affine_is_identity"] is False
    assert record["initial"] == "t.tfm"
    wrong = sitk.TranslationTransform(3, (1.0, -1.0, 0.0))
    sitk.WriteTransform(wrong, str(tmp_path / "t3.tfm"))
    ran = regtool(*args, "--initial", "t3.tfm", "--overwrite")
    assert ran.code == 3 and "3-D" in ran.err


@pytest.mark.parametrize("slices", [6, 8])
def test_thin_stacks(slices: int, regtool: Program, tmp_path: Path) -> None:
    """Six to eight slices of 8 to 10 mm, whole and slice by slice."""
    thick = 10.0 if slices == 6 else 8.0
    grid = make_grid("flipped", (40, 36, slices), (1.6, 1.8, thick))
    files = write_pair(tmp_path, grid, grid, transform(3, (2.0, -2.0, 0.0)), 4.0)
    args = ("register", "-m", "optimise", "--set", "iterations=25,15")
    for number, more in enumerate(((), ("--slices", "z"), ("--initial", "rigid"))):
        done = regtool(*args, files["fixed"], files["moving"], "-o", f"{number}_", *more, "--json")
        record = json.loads(done.ok().out)
        assert record["similarity"]["ncc"]["after"] > 0.97
        assert record["similarity"]["ncc"]["after"] > record["similarity"]["ncc"]["before"]


def test_one_slice_away_from_the_origin_warns(
    done_slice: Case, regtool: Program, tmp_path: Path
) -> None:
    args = ("register", *QUICK, done_slice.files["fixed"], done_slice.files["moving"], "-o", "out_")
    ran = regtool(*args).ok()
    assert ran.err.count("Composite.h5") == 1
    assert "warning" not in regtool(*args, "--composite", "--overwrite").ok().err


def test_slices_for_a_two_dimensional_method(regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (20, 18, 4), (2.0, 2.0, 8.0))
    files = write_pair(tmp_path, grid, grid, np.eye(4))
    args = ("register", *QUICK, files["fixed"], files["moving"], "-o", "out_")
    ran = regtool(*args, "--slices", "w")
    assert ran.code == 2 and "choose x, y or z" in ran.err
    for axis in "xyz":
        regtool(*args, "--slices", axis, "--overwrite").ok()
        field = read_array(tmp_path / "out_1Warp.nii.gz")
        assert np.abs(field[..., "xyz".index(axis)]).max() == 0


def test_masks_are_used(regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    files = write_pair(tmp_path, grid, grid, transform(2, (1.0, -1.0)), 3.0)
    mask = np.zeros(grid.shape, np.uint8)
    mask[:, :14] = 1
    save(tmp_path / "mask.nii.gz", mask, grid)
    args = ("register", "-m", "optimise", "--set", "iterations=10,10", files["fixed"],
            files["moving"], "-o", "out_", "--overwrite")  # fmt: skip
    regtool(*args).ok()
    whole = read_array(tmp_path / "out_1Warp.nii.gz")
    regtool(*args, "--fixed-mask", "mask.nii.gz").ok()
    masked = read_array(tmp_path / "out_1Warp.nii.gz")
    assert np.abs(masked - whole).max() > 0.1
    save(tmp_path / "edge.nii.gz", mask * 0, grid)
    ran = regtool(*args, "--fixed-mask", "edge.nii.gz")
    assert ran.code in (0, 3), ran.err
