"""What ``register`` leaves behind: files, shapes, record, and that others read them right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import QUICK, Case, Program, one_line
from registration_cases import bend, make_grid, moved, points_of, read_array, write_pair

from regtool.engine.request import Request
from regtool.imaging.transforms import write_affine

ALWAYS = {"Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat", "regtool.json"}
ASKED = {"1InverseWarp.nii.gz", "InverseWarped.nii.gz", "WarpedLabels.nii.gz", "Composite.h5"}


def read_record(case: Case) -> dict:
    return json.loads(case.record.read_text(encoding="utf-8"))


def test_exactly_the_documented_files(done: Case) -> None:
    folder = done.record.parent
    made = {p.name.removeprefix("r_") for p in folder.iterdir() if p.name.startswith("r_")}
    assert made == ALWAYS | ASKED
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_record_lists_outputs_with_hashes(done: Case) -> None:
    record = read_record(done)
    assert set(record["outputs"]) == (ALWAYS | ASKED) - {"regtool.json"}
    for role, entry in record["outputs"].items():
        path = done.output(role)
        assert entry["file"] == path.name
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for which in ("fixed", "moving"):
        content = done.files[which].read_bytes()
        assert record[which]["sha256"] == hashlib.sha256(content).hexdigest()


def test_record_content(done: Case) -> None:
    record = read_record(done)
    assert record["schema"] == 1
    assert record["method"]["name"] == "optimise"
    assert record["options"]["iterations"] == [30, 20]
    assert record["device"] == "cpu"
    assert record["seed"] == 0
    assert record["command"][:2] == ["regtool", "register"]
    assert record["fixed"]["size"] == list(done.fixed.size)
    assert np.allclose(record["moving"]["spacing"], done.moving.spacing)
    assert record["field"]["maps"].startswith("fixed points to moving points")
    assert record["weights"]["source"] == "none"
    assert record["seconds"]["total"] > 0
    assert record["warnings"] == []
    assert set(record["dice"]["after"]["labels"]) == {"2", "7"}
    assert record["jacobian"]["count"] == 0


def test_registration_is_better_than_none(done: Case) -> None:
    record = read_record(done)
    assert record["similarity"]["ncc"]["after"] > 0.97
    assert record["similarity"]["ncc"]["after"] > record["similarity"]["ncc"]["before"]
    assert record["dice"]["after"]["mean"] > record["dice"]["before"]["mean"] + 0.02
    assert record["tre_mm"]["after"]["mean"] < 0.6 * record["tre_mm"]["before"]["mean"]


def test_shapes_on_disk(done: Case) -> None:
    size = done.fixed.size
    field = nib.load(done.output("1Warp.nii.gz"))
    spatial = (*size, 1)[:3]
    assert field.shape == (*spatial, 1, len(size))
    assert int(field.header["intent_code"]) == 1007
    assert field.header.get_data_dtype() == np.float32
    assert int(field.header["sform_code"]) > 0 and int(field.header["qform_code"]) > 0
    warped = nib.load(done.output("Warped.nii.gz"))
    assert warped.shape == nib.load(done.files["fixed"]).shape == size
    assert nib.load(done.output("InverseWarped.nii.gz")).shape == done.moving.size
    assert nib.load(done.output("1InverseWarp.nii.gz")).shape == field.shape
    np.testing.assert_allclose(field.affine, nib.load(done.files["fixed"]).affine, atol=1e-4)


@pytest.mark.parametrize("name", ["done2d", "done3d"])
def test_transform_is_the_true_one(name: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    points = points_of(case.fixed)
    inside = ((points - case.fixed.centre) ** 2).sum(-1) < 15.0**2
    affine = sitk.AffineTransform(sitk.ReadTransform(str(case.output("0GenericAffine.mat"))))
    matrix = np.eye(case.fixed.ndim + 1)
    matrix[:-1, :-1] = np.asarray(affine.GetMatrix()).reshape((case.fixed.ndim,) * 2)
    matrix[:-1, -1] = (
        np.asarray(affine.GetTranslation())
        + np.asarray(affine.GetCenter())
        - matrix[:-1, :-1] @ np.asarray(affine.GetCenter())
    )
    found = moved(matrix, points + read_array(case.output("1Warp.nii.gz")))
    truth = moved(case.matrix, bend(points))
    error = np.linalg.norm(found - truth, axis=-1)[inside]
    before = np.linalg.norm(points - truth, axis=-1)[inside]
    assert error.mean() < 1.3, "millimetres; the voxels are 1.5 to 5 mm"
    assert error.mean() < 0.2 * before.mean()


@pytest.mark.parametrize("name", ["done2d", "done3d"])
def test_composite_is_the_chain_in_one_file(name: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    composite = sitk.ReadTransform(str(case.output("Composite.h5")))
    fixed = sitk.ReadImage(str(case.files["fixed"]), sitk.sitkFloat32)
    moving = sitk.ReadImage(str(case.files["moving"]), sitk.sitkFloat32)
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, composite, sitk.sitkLinear, 0.0))
    difference = np.abs(warped - read_array(case.output("Warped.nii.gz")))
    assert difference.max() < 1e-3 * np.ptp(warped)


def test_warped_labels_keep_their_set_and_type(done: Case) -> None:
    labels = read_array(done.output("WarpedLabels.nii.gz"))
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 2, 7}


def test_slices_do_not_move_through_the_stack(done_stack: Case) -> None:
    field = read_array(done_stack.output("1Warp.nii.gz"))
    along = field @ done_stack.fixed.direction_matrix[:, 2]
    assert np.abs(along).max() == 0
    assert np.abs(field).max() > 0.5


def test_one_slice_does_not_leave_its_plane(done_slice: Case) -> None:
    raw = np.asarray(nib.load(done_slice.output("1Warp.nii.gz")).dataobj)
    along = raw.reshape(-1, 3) @ done_slice.fixed.direction_matrix[:, 2]
    assert np.abs(along).max() < 1e-5


@pytest.mark.parametrize("name", ["done2d", "done3d", "done_stack"])
def test_field_in_simpleitk(name: str, request: pytest.FixtureRequest) -> None:
    """A NIfTI vector image that makes a transform as it is."""
    case: Case = request.getfixturevalue(name)
    field = sitk.ReadImage(str(case.output("1Warp.nii.gz")))
    assert field.GetNumberOfComponentsPerPixel() == case.fixed.ndim
    chain = sitk.CompositeTransform(case.fixed.ndim)
    chain.AddTransform(sitk.ReadTransform(str(case.output("0GenericAffine.mat"))))
    chain.AddTransform(
        sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    )  # the one added last is applied first
    fixed = sitk.ReadImage(str(case.files["fixed"]), sitk.sitkFloat32)
    moving = sitk.ReadImage(str(case.files["moving"]), sitk.sitkFloat32)
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, chain, sitk.sitkLinear, 0.0))
    difference = np.abs(warped - read_array(case.output("Warped.nii.gz")))
    assert difference.max() < 1e-3 * np.ptp(warped)


def test_one_frame_of_time(regtool: Program, tmp_path: Path) -> None:
    """(X,Y,Z,1) is a volume, and its results have that shape again."""
    grid = make_grid("flipped", (20, 18, 6), (2.0, 2.0, 6.0))
    files = write_pair(tmp_path, grid, grid, np.eye(4), 1.0)
    for name in ("fixed", "moving"):
        image = nib.load(files[name])
        data = np.asarray(image.dataobj)[..., None]
        nib.Nifti1Image(data, image.affine).to_filename(tmp_path / f"{name}4.nii.gz")
    regtool("register", *QUICK, "fixed4.nii.gz", "moving4.nii.gz", "-o", "out_", "--inverse").ok()
    for name in ("Warped", "InverseWarped"):
        assert nib.load(tmp_path / f"out_{name}.nii.gz").shape == (20, 18, 6, 1)
    assert nib.load(tmp_path / "out_1Warp.nii.gz").shape == (20, 18, 6, 1, 3)


def test_extras_of_an_earlier_run_go(
    tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    """What the old record lists and the new run does not write would be taken for new."""
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    regtool(*args).ok()
    record = json.loads((tmp_path / "out_regtool.json").read_text("utf-8"))
    for name in ("Code.nii.gz", "../away.nii.gz"):
        record["outputs"][name] = {"file": f"out_{name}", "sha256": ""}
    (tmp_path / "out_regtool.json").write_text(json.dumps(record), "utf-8")
    (tmp_path / "out_Code.nii.gz").write_bytes(b"old")
    (tmp_path / "out_Mine.nii.gz").write_bytes(b"not regtool's")
    regtool(*args, "--overwrite").ok()
    assert not (tmp_path / "out_Code.nii.gz").exists()
    assert (tmp_path / "out_Mine.nii.gz").exists()


def test_the_file_of_initial_is_an_input(
    tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--initial")
    write_affine(tmp_path / "out_0GenericAffine.mat", np.eye(3))
    before = (tmp_path / "out_0GenericAffine.mat").read_bytes()
    done = regtool(*args, "out_0GenericAffine.mat", "--overwrite")
    assert done.code == 2
    one_line(done.err)
    assert "out_0GenericAffine.mat: is an input" in done.err
    assert (tmp_path / "out_0GenericAffine.mat").read_bytes() == before


def test_what_a_request_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = Request("a.nii", Path("b.nii"), initial="c.mat", settings=["warm=d.nii", "resume=e"])
    assert request.paths() == [Path("a.nii"), Path("b.nii")]
    for name in ("c.mat", "d.nii", "e"):
        (tmp_path / name).touch()
    assert request.paths() == [Path("a.nii"), Path("b.nii"), Path("c.mat"), Path("d.nii")]
    assert Request("a.nii", "b.nii", initial="com").paths() == [Path("a.nii"), Path("b.nii")]


def test_labels_under_an_optional_name_are_not_removed(
    tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    labels = tiny["fixed_labels"].rename(tmp_path / "out_WarpedLabels.nii.gz")
    before = labels.read_bytes()
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--overwrite")
    regtool(*args, "--fixed-labels", labels).ok()
    assert labels.read_bytes() == before


@pytest.mark.parametrize("broken", ["[]", "{}", '{"kind": "registration", "schema": 1}', "\0"])
def test_damaged_old_record(
    broken: str, tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    (tmp_path / "out_regtool.json").write_text(broken, "utf-8")
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    assert regtool(*args).code == 8
    regtool(*args, "--overwrite").ok()
    (tmp_path / "r_regtool.json").write_text(broken, "utf-8")
    assert regtool("jacobian", "r_regtool.json").code == 3
    assert regtool("apply", tiny["moving"], "-t", "r_regtool.json").code == 3
    assert regtool("apply", tiny["moving"], "-t", "r_regtool.json", "--inverse").code == 3
