"""``regtool evaluate``: agreement with SimpleITK, what is printed and written, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import QUICK, Case, Program
from evaluation_cases import write_case
from registration_cases import read_csv
from scipy import stats

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pairs in two runs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(6):
        write_case(folder, seed, 1.0, f"good/pair{seed}_")
        write_case(folder, seed, 0.5, f"half/pair{seed}_")
    return folder


def test_folder_with_csv_and_plot(runs: Path, regtool: Program, tmp_path: Path) -> None:
    ran = regtool("evaluate", runs / "half", "--csv", "t.csv", "--boxplot", "p.png").ok()
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [f"pair{n}" for n in range(6)]
    mean = np.mean([float(row["tre"]) for row in rows])
    tre = next(line for line in ran.out.splitlines() if line.startswith("TRE (mm)"))
    header = "metric n before, mean (SD) after, mean (SD) after, median"
    assert ran.out.split("\n")[0].split() == header.split()
    assert f"{mean:.2f} (" in tre and tre.split()[2] == "6"
    picture = matplotlib.image.imread(tmp_path / "p.png")
    assert min(picture.shape[:2]) > 300 and picture.std() > 0.05
    again = regtool("evaluate", runs / "half", "--csv", "t.csv")
    assert again.code == 8 and "t.csv: exists already" in again.err
    regtool("evaluate", runs / "half", "--csv", "t.csv", "--overwrite").ok()


def test_runs_side_by_side(runs: Path, regtool: Program) -> None:
    args = ("evaluate", "--compare", f"first={runs / 'half'}", "--compare", runs / "good")
    result = json.loads(regtool(*args, "--json").ok().out)
    assert list(result["summary"]) == ["first", "good"]
    values = {run: [p["after"]["dice"] for p in result["pairs"] if p["run"] == run]
              for run in ("first", "good")}  # fmt: skip
    test = result["comparison"]["tests"]["good"]["dice"]
    assert test["p"] == pytest.approx(stats.wilcoxon(values["good"], values["first"]).pvalue)
    out = regtool(*args).ok().out
    assert "good - first" in out.splitlines()[0]
    assert out.split("\n")[0].split()[:4] == ["metric", "before", "first", "good"]
    dice = next(line for line in out.splitlines() if line.startswith("Dice"))
    before = np.mean([p["before"]["dice"] for p in result["pairs"] if p["run"] == "first"])
    assert dice.split()[1] == f"{before:.4f}"
    assert f"+{test['mean_difference']:.4f}" in dice and "0.031" in dice


def test_a_folder_beside_other_runs_is_named_by_its_end(runs: Path, regtool: Program) -> None:
    args = ("evaluate", runs / "half", "--compare", runs / "good", "--metrics", "seconds")
    ran = regtool(*args).ok()
    assert ran.out.split("\n")[0].split()[1:6] == ["half", "good", "good", "-", "half"]
    again = regtool("evaluate", "--compare", f"a={runs / 'half'}", "--compare", "a=other")
    assert again.code == 2 and "--compare a=other: there is a run 'a' already" in again.err


def test_one_pair_in_two_runs_has_no_spread_and_no_p(runs: Path, regtool: Program) -> None:
    pair = [runs / name / "pair0_regtool.json" for name in ("half", "good")]
    args = ("evaluate", "--compare", f"first={pair[0]}", "--compare", f"next={pair[1]}")
    dice = regtool(*args, "--metrics", "dice").ok().out.splitlines()[1].split("  ")
    cells = [cell.strip() for cell in dice if cell.strip()]
    assert all(cell.endswith(" (-)") for cell in cells[1:4])  # before, and each run
    assert cells[4].startswith("+") and cells[5:] == ["1", "-"]
    found = json.loads(regtool(*args, "--json").ok().out)["comparison"]
    assert found["tests"]["next"]["dice"]["p"] is None
    assert found["summary"]["next"]["dice"]["sd"] is None


def test_two_runs_in_one_mean_are_told(runs: Path, regtool: Program) -> None:
    told = "6 pairs occur more than once; for runs side by side use --compare"
    args = ("--metrics", "seconds")
    assert told in regtool("evaluate", runs / "half", runs / "good", *args).ok().err
    assert told in regtool("evaluate", runs, *args).ok().err
    assert "more than once" not in regtool("evaluate", runs / "good", *args).ok().err
    runs_apart = ("--compare", runs / "half", "--compare", runs / "good")
    assert "more than once" not in regtool("evaluate", *runs_apart, *args).ok().err


def test_runs_in_folders_of_one_name(runs: Path, regtool: Program, tmp_path: Path) -> None:
    for name, place in (("half", "r1"), ("good", "r2")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "out").symlink_to(runs / name)
    args = ("evaluate", "--compare", "r1/out", "--compare", "r2/out", "--metrics", "tre", "--json")
    result = json.loads(regtool(*args).ok().out)
    assert list(result["summary"]) == ["r1/out", "r2/out"]
    assert result["comparison"]["tests"]["r2/out"]["tre"]["n"] == 6


def test_groups_regions_and_names(runs: Path, regtool: Program, tmp_path: Path) -> None:
    record = runs / "half" / "pair1_regtool.json"
    (tmp_path / "names.csv").write_text("label,name\n1,wall\n2,pool\n3,spot\n")
    out = regtool("evaluate", record, "--metrics", "dice", "--names", "names.csv").ok().out
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["Dice", "wall", "pool", "spot"]
    out = regtool("evaluate", record, "--metrics", "dice", "--regions", "acdc").ok().out
    assert [line.split("  ")[1] for line in out.splitlines()[2:]] == [
        "LV cavity", "myocardium", "LV", "RV", "heart",
    ]  # fmt: skip
    result = regtool("evaluate", record, "--metrics", "dice", "--names", "names.csv", "--group",
                     "in=pool+spot", "--group", "out=1", "--json").ok()  # fmt: skip
    found = json.loads(result.out)
    assert list(found["pairs"][0]["after"]) == ["dice", "dice:in", "dice:out"]
    assert found["settings"]["structures"] == {"in": [2, 3], "out": [1]}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--group", "LV=7+9"), "no label map has 7 or 9 (group LV)"),
        (("--group", "LV=2+9"), "no label map has 9 (group LV)"),
        (("--regions", "acdc"), None),
        (("--names", "names.csv"), "no label map has a label that --names names"),
    ],
)
def test_structures_that_no_map_has_are_told(
    asked: tuple[str, str], told: str | None, runs: Path, regtool: Program, tmp_path: Path
) -> None:
    (tmp_path / "names.csv").write_text("label,name\n17,hippocampus\n")
    ran = regtool("evaluate", runs / "half", "--metrics", "dice", *asked).ok()
    assert ("warning" in ran.err) == (told is not None)
    if told:
        assert f"regtool: warning: {told}\n" in ran.err


def test_regions_of_other_labels_and_records_without_labels_are_told(
    regtool: Program, tmp_path: Path
) -> None:
    record = write_case(tmp_path)
    maps = [tmp_path / f"{role}.nii.gz" for role in ("fixed", "moving")]
    for path, role in zip(maps, ("fixed", "moving"), strict=True):
        labels = sitk.ReadImage(str(tmp_path / "images" / f"0_{role}_labels.nii.gz"))
        sitk.WriteImage(labels * 50, str(path))
    given = ("--fixed-labels", maps[0], "--moving-labels", maps[1])
    ran = regtool("evaluate", record, "--regions", "acdc", "--metrics", "dice", *given).ok()
    assert "warning: no label map has 1, 2 or 3 (--regions)" in ran.err
    ran = regtool("evaluate", record, "--group", "LV=2+3", "--metrics", "dice", *given).ok()
    assert "warning: no label map has 2 or 3 (group LV)" in ran.err
    bare = json.loads(record.read_text())
    bare["companions"] = {}
    (record.parent / "bare_regtool.json").write_text(json.dumps(bare))
    ran = regtool("evaluate", record.parent / "bare_regtool.json", "--group", "a=1").ok()
    assert "no structure is measured" in ran.err and "--fixed-labels" in ran.err


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


def test_bad_records_among_many(runs: Path, regtool: Program, tmp_path: Path) -> None:
    path = write_case(tmp_path / "set", 1)
    gone = write_case(tmp_path / "set", 2)
    (tmp_path / "set" / "pair2_1Warp.nii.gz").unlink()
    for arguments in (["set"], [path, gone]):
        ran = regtool("evaluate", *arguments, "--json")
        assert ran.code == 7
        result = json.loads(ran.out)
        assert [p["name"] for p in result["pairs"]] == ["pair1"]
        assert "pair2_1Warp.nii.gz: missing" in result["failed"][0]["error"]
        assert "pair2_1Warp.nii.gz: missing" in ran.err and "1 of 2" in ran.err
    alone = regtool("evaluate", gone)
    assert alone.code == 3 and alone.out == ""
    assert alone.err.startswith("regtool: error: ") and alone.err.count("\n") == 1
    path.unlink()
    assert regtool("evaluate", "set", "--csv", "t.csv", "--boxplot", "p.png").code == 7
    assert (tmp_path / "t.csv").exists() and not (tmp_path / "p.png").exists()


def test_a_device_that_is_not_there_is_told_once(runs: Path, regtool: Program) -> None:
    ran = regtool("evaluate", runs / "half", "--device", "cuda:77")
    assert ran.code == 6 and ran.err.count("\n") == 1 and ran.out == ""


def test_table_of_records(runs: Path, regtool: Program) -> None:
    (runs / "t.csv").write_text(
        "record,run\n" + "".join(f"{r}/pair{n}_regtool.json,{r}\n" for n in range(6)
                                 for r in ("half", "good"))
    )  # fmt: skip
    result = json.loads(regtool("evaluate", runs / "t.csv", "--json").ok().out)
    assert result["comparison"]["tests"]["good"]["tre"]["n"] == 6


def test_series(regtool: Program, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [sitk.GetImageFromArray(rng.random((3, 9, 8)).astype(np.float32)) for _ in range(5)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "real.nii.gz"))
    sitk.WriteImage(sitk.JoinSeries([f * 0.5 for f in frames]), str(tmp_path / "made.nii.gz"))
    ran = regtool("evaluate", "--series", "made.nii.gz", "--frames", "real.nii.gz").ok()
    assert ran.out.splitlines()[-1].split()[-2:] == ["0.25", "(0)"]
    result = json.loads(regtool("evaluate", "--series", "made.nii.gz", "--frames", "real.nii.gz",
                                "--frame-range", "0:4", "--json").ok().out)  # fmt: skip
    assert result["summary"]["nmse"]["mean"] == pytest.approx(0.25)
    assert result["summary"]["nmse"]["n"] == 3


def test_series_of_a_record(regtool: Program, tmp_path: Path) -> None:
    record = write_case(tmp_path)
    ran = regtool("evaluate", record, "--frames", "real.nii.gz")
    assert ran.code == 2 and "lists no Trajectory.nii.gz" in ran.err
    content = json.loads(record.read_text("utf-8"))
    frames = [sitk.GetImageFromArray(np.full((3, 9, 8), float(n))) for n in range(1, 5)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "pair0_Trajectory.nii.gz"))
    from regtool.record import sha256

    path = tmp_path / "pair0_Trajectory.nii.gz"
    content["outputs"]["Trajectory.nii.gz"] = {"file": path.name, "sha256": sha256(path)}
    record.write_text(json.dumps(content), "utf-8")
    result = json.loads(regtool("evaluate", record, "--frames", path, "--json").ok().out)
    assert [frame["nmse"] for frame in result["frames"]] == [0.0] * 4


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
