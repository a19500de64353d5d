"""Many registrations: which ones, their summaries, runs side by side, series, label tables."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from evaluation_cases import write_case
from scipy import stats

from regtool.engine.evaluate.items import Item, collect, inputs_of, name_runs
from regtool.engine.evaluate.many import evaluate_all
from regtool.engine.evaluate.names import read_names
from regtool.engine.evaluate.series import compare_series, parse_frames
from regtool.engine.evaluate.settings import Settings
from regtool.engine.evaluate.sheet import write_csv
from regtool.errors import GeometryError, InputError, UsageError
from regtool.metrics.similarity import nmse, psnr

DICE = Settings(("dice", "tre"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pairs: registered well (``good``), half-way, and five of them not at all."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(7):
        write_case(folder, seed, 1.0, f"good/pair{seed}_")
        write_case(folder, seed, 0.5 + 0.01 * seed, f"half/pair{seed}_")
        if seed < 5:
            write_case(folder, seed, 0.0, f"none/deep/pair{seed}_")
    return folder


def test_folders_stand_for_their_records(runs: Path) -> None:
    found = collect([runs / "none", runs / "good" / "pair3_regtool.json"], "r")
    assert [item.name for item in found] == [*(f"deep/pair{s}" for s in range(5)), "pair3"]
    assert {item.run for item in found} == {"r"}
    (runs / "nothing").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="no record"):
        collect([runs / "nothing"])
    with pytest.raises(UsageError, match="neither a record"):
        collect([runs / "good" / "pair0_Warped.nii.gz"])


def test_what_another_run_is_still_writing_does_not_count(tmp_path: Path) -> None:
    record = write_case(tmp_path / "set")
    shutil.copytree(record.parent, tmp_path / "set" / ".regtool-tmp-host-1-x")
    assert [item.record for item in collect([tmp_path])] == [record]
    hidden = tmp_path / ".hidden" / "set"  # the folder itself may be
    shutil.copytree(record.parent, hidden)
    assert [item.record.parent for item in collect([hidden])] == [hidden]


def test_inputs_are_all_files_of_the_items(tmp_path: Path) -> None:
    record = write_case(tmp_path)
    (tmp_path / "pair0_Warped.nii.gz").unlink()
    (tmp_path / "bad_regtool.json").write_text("{")
    own = {"fixed_labels": tmp_path / "own.nii.gz"}
    items = [
        Item(record, "a", files=own),
        Item(record, "b"),
        Item(tmp_path / "bad_regtool.json", "c"),
    ]
    found = inputs_of(items)
    there = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert set(found) == {*there, own["fixed_labels"]} and len(found) == len(there) + 1


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["r1/out", "r2/out"], ["r1/out", "r2/out"]),
        (["a/r/out", "b/r/out", "c"], ["a/r/out", "b/r/out", "c"]),
        (["out", "r1/out", "./x"], ["out", "r1/out", "x"]),
        (["out=here", "r1/out", "c/out/"], ["out", "r1/out", "c/out"]),
        (["r1/t.csv", "first=r1/t.csv", "."], ["t.csv", "first", "."]),
        (["/d/out", "taken"], ["out", "taken"]),
    ],
)
def test_runs_are_named_by_the_shortest_distinct_ends(runs: list[str], names: list[str]) -> None:
    assert [name for name, _ in name_runs(runs)] == names


def test_runs_of_a_table_keep_their_names() -> None:
    assert name_runs(["a/out"], {"out", ""}) == [("a/out", "a/out")]


@pytest.mark.parametrize(
    ("runs", "taken"),
    [
        (["x=a", "x=b"], []),
        (["a", "./a"], []),
        (["x=a"], ["x"]),
        (["a"], ["a"]),
        (["a=b", "a"], []),
    ],
)
def test_a_run_given_twice_is_refused(runs: list[str], taken: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^--compare \S+: there is a run '[ax]' already"):
        name_runs(runs, taken)


def test_summary_is_numpys(runs: Path) -> None:
    result = evaluate_all(collect([runs / "half"]), Settings())
    assert result["failed"] == [] and result["comparison"] is None
    values = [pair["after"]["dice"] for pair in result["pairs"]]
    summary = result["summary"][""]["after"]["dice"]
    assert summary["n"] == 7
    assert summary["mean"] == pytest.approx(np.mean(values))
    assert summary["sd"] == pytest.approx(np.std(values, ddof=1))
    assert summary["median"] == pytest.approx(np.median(values))
    parts = [v for p in result["pairs"] for k, v in p["after"].items() if k.startswith("dice:")]
    assert summary["pooled_sd"] == pytest.approx(np.std(parts, ddof=1))
    assert "pooled_sd" not in result["summary"][""]["after"]["tre"]


def test_runs_are_compared_pair_by_pair(runs: Path) -> None:
    items = [i for name in ("half", "good", "none") for i in collect([runs / name], name)]
    result = evaluate_all(items, DICE)
    assert list(result["summary"]) == ["half", "good", "none"]
    comparison = result["comparison"]
    assert comparison["reference"] == "half"
    assert comparison["unmatched"] == {"half": 2, "good": 2, "none": 0}
    assert comparison["pairs"] == 5
    by_run = {run: [p["after"]["tre"] for p in result["pairs"] if p["run"] == run]
              for run in ("half", "good", "none")}  # fmt: skip
    assert [len(values) for values in by_run.values()] == [7, 7, 5]
    half, good = by_run["half"][:5], by_run["good"][:5]  # the five that all runs have
    test = comparison["tests"]["good"]["tre"]
    assert test["n"] == comparison["summary"]["good"]["tre"]["n"] == 5
    assert test["p"] == pytest.approx(stats.wilcoxon(good, half).pvalue) == 2 / 2**5
    assert test["mean_difference"] == pytest.approx(np.mean(np.subtract(good, half)))
    assert comparison["summary"]["half"]["tre"]["mean"] == pytest.approx(np.mean(half))
    assert result["summary"]["half"]["after"]["tre"]["mean"] == pytest.approx(
        np.mean(by_run["half"])
    )


def test_pairs_are_matched_by_their_images(runs: Path) -> None:
    """Not by order or name: the second run is reversed and partly missing."""
    some = [i for i in collect([runs / "good"], "b") if i.name != "pair2"][::-1]
    result = evaluate_all([*collect([runs / "half"], "a"), *some], DICE)
    assert result["comparison"]["unmatched"] == {"a": 1, "b": 0}
    first = {p["name"]: p["after"]["tre"] for p in result["pairs"] if p["run"] == "a"}
    second = {p["name"]: p["after"]["tre"] for p in result["pairs"] if p["run"] == "b"}
    expected = np.mean([second[name] - first[name] for name in second])
    test = result["comparison"]["tests"]["b"]["tre"]
    assert (test["n"], test["mean_difference"]) == (6, pytest.approx(expected))


def test_a_pair_that_occurs_twice_is_not_compared(runs: Path) -> None:
    twice = collect([runs / "good", runs / "good" / "pair1_regtool.json"], "b")
    result = evaluate_all([*collect([runs / "half"], "a"), *twice], DICE)
    assert result["comparison"]["repeated"] == {"a": 0, "b": 2}
    assert result["comparison"]["tests"]["b"]["dice"]["n"] == 6
    assert result["comparison"]["unmatched"] == {"a": 1, "b": 0}


def test_a_bad_record_does_not_stop_the_others(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "bad_regtool.json").write_text("{")
    items = collect([tmp_path / "bad_regtool.json", runs / "good" / "pair0_regtool.json"])
    told = []
    result = evaluate_all(items, DICE, lambda *args: told.append(args))
    assert told == [(1, 2), (2, 2)]
    assert [pair["name"] for pair in result["pairs"]] == ["pair0"]
    assert [one["name"] for one in result["failed"]] == ["bad"]
    assert "not a readable record" in result["failed"][0]["error"]
    with pytest.raises(InputError):
        evaluate_all(items, DICE, strict=True)


def test_table_of_records(runs: Path) -> None:
    table = runs / "table.csv"
    table.write_text(
        "record,fixed_labels,moving_labels,name,run\n"
        "good/pair0_regtool.json,images/0_fixed_labels.nii.gz,images/0_fixed_labels.nii.gz,own,x\n"
        "half/pair1_regtool.json,,,,y\n"
    )
    items = collect([table])
    assert [(i.name, i.run) for i in items] == [("own", "x"), ("pair1", "y")]
    result = evaluate_all(items, DICE)
    # Labels that are those of the fixed image already are shifted away by the field.
    assert result["pairs"][0]["before"]["dice"] == 1.0 > result["pairs"][0]["after"]["dice"]
    assert result["pairs"][1]["before"]["dice"] < 1
    assert collect([table], "forced")[0].run == "forced"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows"),
        ("record\n", "no rows"),
        ("fixed,moving\na,b\n", "no column 'record'"),
        ("record,fixed_lables\na,b\n", "did you mean 'fixed_labels'"),
        ("record,run,run\na,b,c\n", "twice"),
        ("record\na,b\n", "2 cells"),
        ("record,run\n,b\n", "column record: empty"),
    ],
)
def test_bad_tables(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        collect([tmp_path / "t.csv"])
    with pytest.raises(InputError, match="no such table"):
        collect([tmp_path / "none.csv"])


def test_csv_has_one_row_a_registration(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "bad_regtool.json").write_text("{")
    result = evaluate_all(collect([runs / "half", tmp_path / "bad_regtool.json"]), DICE)
    result["pairs"][0]["after"]["tre"] = math.inf
    del result["pairs"][1]["after"]["tre"]
    write_csv(tmp_path / "t.csv", result)
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8
    assert float(rows[3]["dice:2"]) == result["pairs"][3]["after"]["dice:2"]
    assert float(rows[3]["before:tre"]) == result["pairs"][3]["before"]["tre"]
    assert (rows[0]["tre"], rows[1]["tre"]) == ("inf", "")
    assert rows[0]["label_interpolation"] == "nearest"
    assert "not a readable record" in rows[7]["error"] and rows[7]["dice"] == ""


@pytest.mark.parametrize(
    "text",
    [
        "Label Number,Label Name,Class\n1,wall,x\n2,spot,y\n",
        "id\tname\n2\tspot\n1\twall\n",
        "# a colour table\n0  Unknown  0 0 0 0\n1  wall  70 130 180 0\n2\tspot\t1 2 3 0\n",
        '# ITK-SNAP\n0 0 0 0 0 0 0 "Clear"\n1 255 0 0 1 1 1 "wall"\n2 0 255 0 1 1 1 "spot"\n',
    ],
)
def test_label_tables(text: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(text)
    found = read_names(tmp_path / "names.txt")
    assert found[1] == "wall" and found[2] == "spot"


def test_odd_label_tables(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text("label,name\n1,same\n2,same\n3,\n4,other\n")
    assert read_names(file) == {1: "same (1)", 2: "same (2)", 4: "other"}
    for text, says in (
        ("label,colour\n1,red\n", "names no column"),
        ("label,name\nx,red\n", "'x' is not the number"),
        ("# nothing\n", "no labels"),
        ("label,name\n3,\n", "no line"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=says):
            read_names(file)


def write_series(path: Path, frames: np.ndarray, spacing: float = 2.0) -> Path:
    image = sitk.JoinSeries([sitk.GetImageFromArray(f.astype(np.float32)) for f in frames])
    image.SetSpacing((spacing, spacing, 3.0, 1.0))
    sitk.WriteImage(image, str(path))
    return path


def test_frames_against_real_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real = rng.random((7, 4, 6, 5)) * 100
    made = real[[5, 4, 3, 2, 1]] + rng.standard_normal((5, 4, 6, 5))
    files = write_series(tmp_path / "made.nii.gz", made), write_series(tmp_path / "real.nii", real)
    result = compare_series(*files, parse_frames("5:1"))
    assert result["notes"] == []
    assert [(f["real"], f["generated"]) for f in result["frames"]] == list(zip(
        (5, 4, 3, 2, 1), range(5), strict=True))  # fmt: skip
    span = np.ptp(real[1:6].astype(np.float32))
    expected = [(psnr(real[5 - i], made[i], data_range=span), nmse(real[5 - i], made[i]))
                for i in range(5)]  # fmt: skip
    found = [(f["psnr"], f["nmse"]) for f in result["frames"]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    summary = result["summary"]["psnr"]
    assert summary["n"] == 3
    assert summary["mean"] == pytest.approx(np.mean([p for p, _ in expected[1:-1]]), rel=1e-4)


def test_other_numbers_of_frames_match_in_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    real = rng.random((9, 2, 5, 5))
    files = (
        write_series(tmp_path / "made.nii.gz", real[::4]),
        write_series(tmp_path / "real.nii.gz", real),
    )
    result = compare_series(*files)
    assert [f["generated"] for f in result["frames"]] == [0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert result["frames"][4]["nmse"] == 0.0 and math.isinf(result["frames"][4]["psnr"])
    assert "nearest in time" in result["notes"][0]


def test_series_that_do_not_fit(tmp_path: Path) -> None:
    real = np.random.default_rng(2).random((5, 2, 6, 6))
    file = write_series(tmp_path / "real.nii.gz", real)
    other = write_series(tmp_path / "other.nii.gz", real, spacing=1.0)
    assert "resampled" in compare_series(other, file)["notes"][0]
    for frames, error in (((0, 9), InputError), ((1, 2), UsageError)):
        with pytest.raises(error, match="frame"):
            compare_series(file, file, frames)
    flat = write_series(tmp_path / "flat.nii.gz", real[:1])
    with pytest.raises((InputError, GeometryError)):
        compare_series(flat, file)
    for text in ("1", "a:b", "1:-2"):
        with pytest.raises(UsageError, match="FIRST:LAST"):
            parse_frames(text)
