"""``regtool evaluate`` of many records: folders, runs side by side, tables, series."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import Program
from evaluation_cases import write_case
from scipy import stats


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


def test_a_device_that_is_not_there_is_told_once(runs: Path, regtool: Program) -> None:
    ran = regtool("evaluate", runs / "half", "--device", "cuda:77")
    assert ran.code == 6 and ran.err.count("\n") == 1 and ran.out == ""
