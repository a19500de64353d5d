"""``register`` as a command: what it refuses, and images of all kinds."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import QUICK, RECORD, Case, Program, one_line, outputs
from registration_cases import make_grid, read_array, save, transform, write_pair

Pair = dict[str, Path]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("-m", "optimize"), 2, "did you mean 'optimise'?"),
        (("-m", "nonsense-of-all-sorts"), 2, "installed are ad-regnet, "),
        (("--set", "iteration=3"), 2, "did you mean 'iterations'?"),
        (("--set", "iterations=many"), 2, "iterations"),
        (("--set", "window"), 2, "name=value"),
        (("--set", "rate=-1"), 2, "rate"),
        (("--initial", "rigit"), 2, "rigit"),
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
        (("--roi", "fixed_labels.nii.gz"), 2, "leave out --roi"),
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
    one_line(ran.err.splitlines()[-1])  # before it, that such an image is empty
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


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)])
def test_one_slice_along_another_axis_of_the_file(
    order: tuple[int, ...], done_slice: Case, regtool: Program, tmp_path: Path
) -> None:
    """The same slices stored with their normal along x or y give the same numbers."""
    for name in ("fixed", "moving"):
        sitk.WriteImage(
            sitk.PermuteAxes(sitk.ReadImage(str(done_slice.files[name])), order),
            str(tmp_path / f"{name}.nii.gz"),
        )
    args = ("register", *QUICK, "--initial", "com", "--json", "--overwrite", "--composite")
    plain = regtool(*args, done_slice.files["fixed"], done_slice.files["moving"], "-o", "out_")
    turned = regtool(*args, "fixed.nii.gz", "moving.nii.gz", "-o", "out_")
    one, other = (json.loads(ran.ok().out) for ran in (plain, turned))
    assert one["jacobian"] == pytest.approx(other["jacobian"], abs=1e-5)
    for when in ("before", "after"):
        for number in one["similarity"].values():
            assert number[when] > 0.1
        pairs = zip(one["similarity"].values(), other["similarity"].values(), strict=True)
        assert all(a[when] == pytest.approx(b[when], abs=1e-5) for a, b in pairs)
    assert read_array(tmp_path / "out_1Warp.nii.gz").shape[:3].index(1) == 2 - order.index(2)
    regtool("apply", "moving.nii.gz", "-t", RECORD, "-r", "fixed.nii.gz", "-o", "again.nii").ok()
    again, warped = (read_array(tmp_path / name) for name in ("again.nii", "out_Warped.nii.gz"))
    assert np.allclose(again, warped, atol=1e-3)


def test_a_volume_of_one_line_is_too_small(regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (1, 20, 1), (2.0, 2.0, 2.0))
    save(tmp_path / "line.nii", np.ones(grid.shape, np.float32), grid)
    ran = regtool("register", *QUICK, "line.nii", "line.nii", "-o", "out_")
    assert ran.code == 3 and "too small to register" in ran.err


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
