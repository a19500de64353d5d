"""``regtool evaluate`` of one pair: agreement with SimpleITK, what is printed, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import QUICK, Case, Program
from evaluation_cases import write_case
from registration_cases import read_csv

from regtool.spatial.jacobian import field_jacobian, folds


def whole_transform(case: Case) -> sitk.Transform:
    """The registration as ITK reads it from its affine and field."""
    affine = sitk.ReadTransform(str(case.output("0GenericAffine.mat")))
    warp = sitk.ReadTransform(str(case.output("Composite.h5")))
    assert affine.GetDimension() == warp.GetDimension() == case.fixed.ndim
    return warp


def overlap(one: sitk.Image, other: sitk.Image) -> dict[int, float]:
    """Dice by ITK of the labels 2 and 7."""
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.Cast(one, sitk.sitkUInt8), sitk.Cast(other, sitk.sitkUInt8))
    return {label: measure.GetDiceCoefficient(label) for label in (2, 7)}


def test_files_given_by_relative_paths_are_found_from_elsewhere(
    regtool: Program, tiny: dict[str, Path], tmp_path: Path
) -> None:
    names = [tiny[n].name for n in ("fixed_labels", "moving_labels", "fixed", "moving")]
    regtool("register", *QUICK, "-o", "out_", "--fixed-labels", names[0], "--moving-labels",
            *names[1:], "--report", "page.html").ok()  # fmt: skip
    elsewhere = tmp_path / "some" / "where"
    elsewhere.mkdir(parents=True)
    shutil.copy(tiny["fixed_labels"], elsewhere / names[1])  # of the name, but another file
    ran = regtool("evaluate", "../../out_regtool.json", "--json", cwd=elsewhere).ok()
    found = json.loads(ran.out)["pairs"][0]
    record = json.loads((tmp_path / "out_regtool.json").read_text())
    assert found["after"]["dice"] == pytest.approx(record["dice"]["after"]["mean"])
    assert {"ncc", "folds"} <= set(found["after"])


@pytest.mark.parametrize("name", ["done2d", "done3d", "done_stack"])
def test_overlap_and_landmarks_agree_with_itk(
    name: str, request: pytest.FixtureRequest, regtool: Program
) -> None:
    """The labels are warped by ITK from the original file through the composite, once."""
    case: Case = request.getfixturevalue(name)
    found = json.loads(regtool("evaluate", case.record, "--json", "-q").ok().out)["pairs"][0]
    fixed, moving = (
        sitk.ReadImage(str(case.files[f"{role}_labels"])) for role in ("fixed", "moving")
    )
    transform = whole_transform(case)
    for when, through in (("before", sitk.Transform(case.fixed.ndim, sitk.sitkIdentity)),
                          ("after", transform)):  # fmt: skip
        labels = sitk.Resample(moving, fixed, through, sitk.sitkNearestNeighbor, 0)
        expected = overlap(fixed, labels)
        for label, score in expected.items():
            # A voxel whose position rounds differently in float32 may fall on either side.
            assert found[when][f"dice:{label}"] == pytest.approx(score, abs=2e-3)
    fixed_points, moving_points = (read_csv(case.files[f"{r}_points"]) for r in ("fixed", "moving"))
    mapped = np.array([transform.TransformPoint(p.tolist()) for p in fixed_points])
    apart = np.linalg.norm(mapped - moving_points, axis=1)
    assert found["after"]["tre"] == pytest.approx(apart.mean(), rel=1e-4)
    assert found["after"]["tre_median"] == pytest.approx(np.median(apart), rel=1e-4)
    assert found["after"]["tre"] < found["before"]["tre"] or name == "done_stack"


def test_numbers_are_those_of_the_record(done: Case, regtool: Program) -> None:
    """What ``register`` measured itself is measured alike."""
    found = json.loads(regtool("evaluate", done.record, "--json", "-q").ok().out)["pairs"][0]
    record = json.loads(done.record.read_text("utf-8"))
    for when in ("before", "after"):
        assert found[when]["dice"] == pytest.approx(record["dice"][when]["mean"])
        assert found[when]["ncc"] == pytest.approx(record["similarity"]["ncc"][when], abs=1e-6)
    assert found["after"]["folds"] == pytest.approx(record["jacobian"]["percent"])
    assert found["after"]["sd_jacobian"] == pytest.approx(record["jacobian"]["sd"], rel=1e-5)
    assert found["after"]["seconds"] == record["seconds"]["total"]


def test_jacobian_is_that_of_the_written_field(done3d: Case, regtool: Program) -> None:
    """Central differences of the field in millimetres, with the direction matrix."""
    field = np.moveaxis(
        sitk.GetArrayFromImage(sitk.ReadImage(str(done3d.output("1Warp.nii.gz")))), -1, 0
    )
    grid = done3d.fixed
    gradient = np.stack(
        [np.stack(np.gradient(component), 0)[::-1] for component in field.astype(np.float64)]
    )  # by component (x, y, z) and index axis (x, y, z)
    world = np.linalg.inv(grid.direction_matrix * np.asarray(grid.spacing))
    matrix = np.einsum("ci...,iw->...cw", gradient, world) + np.eye(3)
    expected = np.linalg.det(matrix)[1:-1, 1:-1, 1:-1]
    found = json.loads(regtool("evaluate", done3d.record, "--json", "-q").ok().out)["pairs"][0]
    logs = np.log(expected[expected > 0])
    assert found["after"]["folds"] == pytest.approx(100 * (expected <= 0).mean())
    assert found["after"]["sd_jacobian"] == pytest.approx(expected.std(ddof=1), rel=1e-4)
    assert found["after"]["sd_log_jacobian"] == pytest.approx(logs.std(ddof=1), rel=1e-4)
    whole = folds(field_jacobian(np.moveaxis(field, 0, -1), grid))
    assert whole.sd == pytest.approx(expected.std(ddof=1), rel=1e-4)
    assert json.loads(done3d.record.read_text())["jacobian"]["sd_log"] == pytest.approx(
        found["after"]["sd_log_jacobian"], rel=1e-6
    )


def test_label_interpolation_is_what_apply_does(
    done3d: Case, regtool: Program, tmp_path: Path
) -> None:
    labels = tmp_path / "warped.nii.gz"
    regtool("apply", done3d.files["moving_labels"], "-r", done3d.files["fixed"], "-t",
            done3d.record, "-n", "label", "-o", labels).ok()  # fmt: skip
    ran = regtool("evaluate", done3d.record, "--label-interpolation", "label", "--json").ok()
    found = json.loads(ran.out)["pairs"][0]
    assert "labels warped with: label" in ran.err
    assert found["details"]["labels"]["interpolation"] == "label"
    expected = overlap(
        sitk.ReadImage(str(done3d.files["fixed_labels"])), sitk.ReadImage(str(labels))
    )
    for label, score in expected.items():
        assert found["after"][f"dice:{label}"] == pytest.approx(score)


def test_table_of_one_pair(done2d: Case, regtool: Program) -> None:
    ran = regtool("evaluate", done2d.record, "--metrics", "dice,tre,surface-dice").ok()
    lines = [line.split("  ") for line in ran.out.splitlines()]
    assert lines[0][0] == "r"
    titles = [line[0] or f"  {line[1]}" for line in lines[1:]]
    assert titles[:3] == ["Dice", "  2", "  7"]
    assert "surface Dice at 2 mm" in titles and "TRE (mm)" in titles
    assert "NCC" not in ran.out
    assert ran.err == "regtool: labels warped with: nearest\n"


def test_titles_are_in_the_words_of_the_metrics(done2d: Case, regtool: Program) -> None:
    out = regtool("evaluate", done2d.record, "--metrics", "folds,inverse_error").ok().out
    titles = [line.partition("  ")[0] for line in out.splitlines()[1:]]
    assert titles == [
        "folds (%), central", "inverse error (mm)", "inverse error, largest (mm)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "target", ["pair0_1Warp.nii.gz", "images/0_fixed_labels.nii.gz", "t.csv", "mask.nii.gz"]
)
def test_no_input_is_replaced(target: str, regtool: Program, tmp_path: Path) -> None:
    write_case(tmp_path)
    shutil.copy(tmp_path / "images" / "0_fixed_labels.nii.gz", tmp_path / "mask.nii.gz")
    (tmp_path / "t.csv").write_text("record\npair0_regtool.json\n")
    before = (tmp_path / target).read_bytes()
    ran = regtool("evaluate", "t.csv", "--mask", "mask.nii.gz", "--csv", target, "--overwrite")
    assert ran.code == 2 and f"{target}: is an input as well as an output" in ran.err
    assert (tmp_path / target).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "nothing to evaluate"),
        (("none_regtool.json",), 3, "no such file"),
        (("none.nii.gz",), 3, "none.nii.gz: no such record"),
        (("T",), 2, "neither a record"),
        (("empty",), 3, "no record"),
        (("R", "--metrics", "dise"), 2, "choose from dice, hd95"),
        (("R", "--regions", "brain"), 2, "acdc, ixi"),
        (("R", "--group", "LV"), 2, "NAME=1+2"),
        (("R", "--group", "LV=cavity"), 2, "--names"),
        (("R", "--names", "none.csv"), 3, "none.csv: no such file"),
        (("R", "--mask", "none.nii.gz"), 3, "none.nii.gz: no such file"),
        (("R", "--fixed-labels", "none.nii.gz"), 3, "none.nii.gz: no such file"),
        (("R", "--boxplot", "p.txt"), 2, ".png or .pdf"),
        (("R", "--surface-tolerance", "-1"), 2, "--surface-tolerance"),
        (("--compare", "a="), 2, "NAME=FOLDER"),
        (("--compare", "a=b", "--compare", "a=c"), 2, "there is a run 'a' already"),
        (("--series", "a.nii.gz"), 2, "need --frames"),
        (("--frames", "a.nii.gz"), 2, "--series FILE or one record"),
        (("--series", "a.nii.gz", "--frames", "b.nii.gz"), 3, "a.nii.gz: no such file"),
        (("--series", "a.nii.gz", "--frames", "b.nii.gz", "--csv", "c.csv"), 2, "not with tables"),
    ],
)
def test_refusals(
    arguments: tuple[str, ...], code: int, says: str, runs: Path, regtool: Program, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("no record")
    files = {"R": str(runs / "good" / "pair0_regtool.json"), "T": "words.txt"}
    ran = regtool("evaluate", *(files.get(a, a) for a in arguments))
    assert ran.code == code, ran.err
    assert says in ran.err and ran.out == ""
