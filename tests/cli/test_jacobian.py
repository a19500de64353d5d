"""``jacobian``: the determinant of known fields, its statistics and its forms of output."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_cases import Case, Program
from registration_cases import make_grid, points_of, read_array, save

STRETCH = np.array([[1.3, 0.1, 0.0], [0.0, 0.9, 0.05], [0.02, 0.0, 1.1]])


def write_linear_field(path: Path, direction: str, matrix: np.ndarray) -> None:
    """The field of ``x -> M x`` on a small grid of a named direction, as SimpleITK writes it."""
    ndim = len(matrix)
    grid = make_grid(direction, (9, 8, 7)[:ndim], (2.0, 2.5, 4.0)[:ndim])
    points = points_of(grid)
    save(path, (points @ matrix.T - points).astype(np.float32), grid, vector=True)


@pytest.mark.parametrize("direction", ["identity", "flipped", "oblique", "permuted"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_linear_maps(direction: str, ndim: int, regtool: Program, tmp_path: Path) -> None:
    matrix = STRETCH[:ndim, :ndim]
    write_linear_field(tmp_path / "w.nii.gz", direction, matrix)
    ran = regtool("jacobian", "w.nii.gz", "--json").ok()
    numbers, wanted = json.loads(ran.out), np.linalg.det(matrix)
    assert numbers["min"] == pytest.approx(wanted, abs=1e-3)
    assert numbers["max"] == pytest.approx(wanted, abs=1e-3)
    assert numbers["count"] == 0
    values = read_array(tmp_path / "wJacobian.nii.gz")
    np.testing.assert_allclose(values, wanted, atol=1e-3)


def test_reflection_is_negative_and_counted(regtool: Program, tmp_path: Path) -> None:
    write_linear_field(tmp_path / "w.nii.gz", "oblique", np.diag([-1.0, 1.0, 1.0]))
    ran = regtool("jacobian", "w.nii.gz", "--json", "--log").ok()
    numbers = json.loads(ran.out)
    assert numbers["max"] == pytest.approx(-1, abs=1e-3)
    assert numbers["count"] == numbers["voxels"] == numbers["floored"] == 7 * 6 * 5
    assert numbers["percent"] == 100
    assert "210 voxels were floored" in ran.err
    logs = read_array(tmp_path / "wLogJacobian.nii.gz")
    np.testing.assert_allclose(logs, np.log(1e-3), atol=1e-5)


def test_log(regtool: Program, tmp_path: Path) -> None:
    write_linear_field(tmp_path / "w.nii.gz", "flipped", STRETCH)
    regtool("jacobian", "w.nii.gz", "--log", "-o", "log.nii.gz").ok()
    values = read_array(tmp_path / "log.nii.gz")
    np.testing.assert_allclose(values, np.log(np.linalg.det(STRETCH)), atol=1e-3)


def test_mask(regtool: Program, tmp_path: Path) -> None:
    """Statistics are taken inside the mask, which may have a grid of its own."""
    grid = make_grid("oblique", (20, 18, 6), (2.0, 2.0, 4.0))
    points = points_of(grid) - grid.centre
    field = np.zeros_like(points)
    along = points @ grid.direction_matrix[:, 0]
    field += np.where(along > 0, 0.3 * along, 0)[..., None] * grid.direction_matrix[:, 0]
    save(tmp_path / "w.nii.gz", field.astype(np.float32), grid, vector=True)
    mask = (along > 6).astype(np.uint8)
    save(tmp_path / "mask.nii.gz", mask, grid)
    numbers = json.loads(
        regtool("jacobian", "w.nii.gz", "--mask", "mask.nii.gz", "--json").ok().out
    )
    assert numbers["min"] == pytest.approx(1.3, abs=1e-3)
    assert numbers["sd"] < 1e-3
    assert numbers["voxels"] == mask[1:-1, 1:-1, 1:-1].sum()
    save(tmp_path / "empty.nii.gz", mask * 0, grid)
    ran = regtool("jacobian", "w.nii.gz", "--mask", "empty.nii.gz", "--overwrite")
    assert ran.code == 3 and "empty" in ran.err
    edge = np.zeros_like(mask)
    edge[0] = 1
    save(tmp_path / "edge.nii.gz", edge, grid)
    ran = regtool("jacobian", "w.nii.gz", "--mask", "edge.nii.gz", "--overwrite")
    assert ran.code == 3 and "edge.nii.gz" in ran.err


def test_of_a_record(done: Case, regtool: Program, tmp_path: Path) -> None:
    """The map has the fixed image's shape, and the numbers are the record's own."""
    out = tmp_path / "j.nii.gz"
    numbers = json.loads(regtool("jacobian", done.record, "-o", out, "--json").ok().out)
    recorded = json.loads(done.record.read_text("utf-8"))["jacobian"]
    for name in ("min", "max", "mean", "sd", "count", "voxels"):
        assert numbers[name] == pytest.approx(recorded[name], rel=1e-5)
    assert nib.load(out).shape == done.fixed.size
    np.testing.assert_allclose(
        nib.load(out).affine, nib.load(done.files["fixed"]).affine, atol=1e-4
    )
    affine = np.linalg.det(np.asarray(json.loads(done.record.read_text())["affine"])[:-1, :-1])
    assert numbers["affine_determinant"] == pytest.approx(affine, abs=1e-5)


def test_table_on_stdout(done2d: Case, regtool: Program, tmp_path: Path) -> None:
    ran = regtool("jacobian", done2d.record, "-o", tmp_path / "j.nii.gz", "-q").ok()
    titles = [line.partition("  ")[0] for line in ran.out.splitlines()]
    assert titles == [
        "determinant J", "min", "max", "mean", "SD", "SD of log J", "folds, J <= 0 (voxels)",
        "folds (%)", "counted (voxels)", "J < 0.001 (voxels)", "the affine's own",
    ]  # fmt: skip
    assert ran.out.splitlines()[0].endswith("  without the border layer")
    assert ran.err == ""
    logs = regtool("jacobian", done2d.record, "-o", tmp_path / "log.nii.gz", "--log").ok()
    assert logs.out == ran.out and "log.nii.gz, the logarithm of J" in logs.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("fixed.nii.gz",), 3, "not a displacement field"),
        (("none.json",), 3, "none.json: no such file"),
        (("w.nii.gz", "-o", "j.png"), 2, "unknown image format"),
        (("w.nii.gz", "-o", "missing/j.nii.gz"), 0, ""),
        (("w.nii.gz", "--mask", "none.nii.gz"), 3, "none.nii.gz: no such file"),
        (("w.nii.gz", "-o", "w.nii.gz", "--overwrite"), 2, "input as well as an output"),
    ],
)
def test_refusals(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    tiny: dict[str, Path],
    regtool: Program,
    tmp_path: Path,
) -> None:
    write_linear_field(tmp_path / "w.nii.gz", "identity", STRETCH)
    ran = regtool("jacobian", *arguments)
    assert ran.code == code, ran.err
    assert says in ran.err


def test_a_transform_file_names_what_to_give(
    done2d: Case, regtool: Program, tmp_path: Path
) -> None:
    for role in ("0GenericAffine.mat", "Composite.h5"):
        ran = regtool("jacobian", done2d.output(role))
        assert ran.code == 3 and "takes a record (_regtool.json) or a displacement" in ran.err
        there = f"here {done2d.record} or {done2d.output('1Warp.nii.gz')}"
        assert there in ran.err and len(ran.err.splitlines()) == 1
    (tmp_path / "x.mat").write_bytes(done2d.output("0GenericAffine.mat").read_bytes())
    ran = regtool("jacobian", "x.mat")
    assert ran.code == 3 and ran.err.endswith("(PREFIX1Warp.nii.gz)\n")


def test_existing_output(regtool: Program, tmp_path: Path) -> None:
    write_linear_field(tmp_path / "w.nii.gz", "identity", STRETCH)
    regtool("jacobian", "w.nii.gz").ok()
    assert regtool("jacobian", "w.nii.gz").code == 8
    regtool("jacobian", "w.nii.gz", "--overwrite").ok()
