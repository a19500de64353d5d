"""``register --pairs``: many pairs, some bad, interrupted, shared, begun again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_cases import QUICK, Program, write_table
from registration_cases import SIZE2, make_grid, read_array, transform, write_pair
from warm_cli import environment

METHOD = ("-m", "voxelmorph")
OUTPUTS = ("Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat", "regtool.json")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Path]]:
    """Three 2-D pairs of one size, and one of another."""
    folder = tmp_path_factory.mktemp("pairs")
    made = []
    for k, size in enumerate([SIZE2, SIZE2, SIZE2, (40, 36)]):
        (folder / str(k)).mkdir()
        matrix = transform(2, (2.0 - k, 1.0 + k))
        grid = make_grid("identity", size)
        made.append(write_pair(folder / str(k), grid, grid, matrix, 2.0 + k))
    return made


def complete(folder: Path) -> dict[str, int]:
    """Names of the pairs with a record, and when it was written."""
    found = folder.glob("*_regtool.json")
    return {p.name.removesuffix("_regtool.json"): p.stat().st_mtime_ns for p in found}


def test_pairs_are_what_single_registrations_are(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    rows = [(f"p{k}", files) for k, files in enumerate(pairs)]
    write_table(tmp_path / "t.csv", rows, "fixed_labels", "moving_labels")
    done = regtool("register", *METHOD, "--pairs", "t.csv", "-o", "out", "--inverse").ok()
    assert done.out == ""
    assert sorted(complete(tmp_path / "out")) == ["p0", "p1", "p2", "p3"]
    for name, files in rows:
        regtool("register", *METHOD, files["fixed"], files["moving"], "-o", f"one_{name}_",
                "--fixed-labels", files["fixed_labels"], "--moving-labels",
                files["moving_labels"], "--inverse").ok()  # fmt: skip
        for role in ("Warped.nii.gz", "1Warp.nii.gz", "1InverseWarp.nii.gz"):
            one, many = (read_array(tmp_path / f"{p}{name}_{role}") for p in ("one_", "out/"))
            np.testing.assert_allclose(many, one, atol=1e-3)
        records = [
            json.loads((tmp_path / f"{p}{name}_regtool.json").read_text()) for p in ("one_", "out/")
        ]
        assert records[1]["dice"]["after"]["mean"] == pytest.approx(
            records[0]["dice"]["after"]["mean"], abs=1e-3
        )
        assert records[1]["seconds"]["network"] > 0
    summary = json.loads((tmp_path / "out" / "cohort.json").read_text())
    assert (summary["pairs"], summary["done"], summary["failed"]) == (4, 4, [])


def test_bad_pairs_do_not_stop_the_others(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(pairs[0]["fixed"].read_bytes()[:200])
    volume = tmp_path / "volume.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), volume)
    rows = [
        ("missing", {**pairs[0], "moving": tmp_path / "nothing.nii.gz"}),
        ("good", pairs[0]),
        ("broken", {**pairs[0], "fixed": broken}),
        ("mixed", {**pairs[0], "fixed": volume}),
        ("fine", pairs[3]),
    ]
    write_table(tmp_path / "t.csv", rows)
    ran = regtool("register", *METHOD, "--pairs", "t.csv", "-o", "out", "--json")
    assert ran.code == 7, ran.err
    assert set(complete(tmp_path / "out")) == {"good", "fine"}
    failed = {one["name"]: one for one in json.loads(ran.out)["failed"]}
    assert set(failed) == {"missing", "broken", "mixed"}
    assert all(one["code"] == 3 for one in failed.values())
    for name, word in (("missing", "nothing.nii.gz: no such file"), ("broken", "broken.nii.gz"),
                       ("mixed", "3-D")):  # fmt: skip
        lines = [
            line for line in ran.err.splitlines() if line.startswith(f"regtool: error: {name}")
        ]
        assert len(lines) == 1 and word in lines[0]
    assert ran.err.splitlines()[-1].startswith("regtool: error: 3 pairs failed")
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_complete_pairs_are_skipped(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    rows = [(f"p{k}", files) for k, files in enumerate(pairs)]
    write_table(tmp_path / "t.csv", rows[:2])
    args = ("register", *METHOD, "--pairs", "t.csv", "-o", "out")
    regtool(*args).ok()
    before = complete(tmp_path / "out")
    write_table(tmp_path / "t.csv", rows)
    (tmp_path / "out" / "p1_Warped.nii.gz").unlink()
    (tmp_path / "out" / "p2_Warped.nii.gz").write_bytes(b"left by a killed run")
    done = regtool(*args).ok()
    after = complete(tmp_path / "out")
    assert "4 pairs, 1 complete already" in done.err
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*_regtool.json")]
    local = [record["similarity"]["local_ncc"] for record in records]
    found = {when: np.median([one[when] for one in local]) for when in ("before", "after")}
    told = "medians: local NCC {before:.3f} before, {after:.3f} after".format(**found)
    assert told in done.err
    assert set(after) == {"p0", "p1", "p2", "p3"}
    assert after["p0"] == before["p0"] and after["p1"] > before["p1"]
    assert read_array(tmp_path / "out" / "p2_Warped.nii.gz").ndim == 2
    again = regtool(*args, "--json").ok()
    assert json.loads(again.out)["skipped"] == 4
    assert complete(tmp_path / "out") == after


def test_other_settings_are_not_taken_for_complete(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", [("p", pairs[0]), ("q", pairs[1])])
    args = ("register", "--pairs", "t.csv", "-o", "out", *METHOD)
    regtool(*args).ok()
    before = complete(tmp_path / "out")
    write_table(tmp_path / "t.csv", [("p", pairs[0]), ("q", pairs[2])])
    ran = regtool(*args)
    assert ran.code == 7
    assert "q_regtool.json: made with" in ran.err and "--overwrite" in ran.err
    ran = regtool(*args, "--set", "passes=1")
    assert ran.code == 7 and "2 pairs failed" in ran.err and "tries again" not in ran.err
    assert "p_regtool.json: made with no --set (now --set passes=1); use --overwrite" in ran.err
    assert complete(tmp_path / "out") == before
    regtool(*args, "--set", "passes=1", "--overwrite").ok()
    after = complete(tmp_path / "out")
    assert all(after[name] > before[name] for name in before)


STOPPED = """
import os, pathlib, threading, time

def watch():
    while len(list(pathlib.Path("out").glob("*_regtool.json"))) < 2:
        time.sleep(0.002)
    os.kill(os.getpid(), {0})

threading.Thread(target=watch, daemon=True).start()
"""
"""Python that sends the process a signal when two pairs are complete."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_half_way_and_started_again(
    number: int, pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    rows = [(f"p{k:02d}", pairs[k % 4]) for k in range(10)]
    write_table(tmp_path / "t.csv", rows)
    out = tmp_path / "out"
    args = ["register", "-m", "optimise", "--set", "iterations=20,20", "--pairs", "t.csv",
            "-o", "out"]  # fmt: skip
    ran = regtool(*args, before=STOPPED.format(int(number)))
    there = complete(out)
    assert 2 <= len(there) < 10, "it was to be hit in the middle"
    if number == signal.SIGKILL:
        assert ran.code == -signal.SIGKILL
    else:
        assert ran.code == 130, ran.err
        assert "the same command goes on" in ran.err
        assert not [p for p in out.iterdir() if p.name.startswith(".")]
        assert {p.name.split("_")[0] for p in out.iterdir()} == set(there), "all files or none"
    regtool(*args).ok()
    after = complete(out)
    assert len(after) == 10
    assert all(after[name] == when for name, when in there.items()), "done twice"
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    files = {f"{name}_{role}" for name, _ in rows for role in OUTPUTS}
    assert {p.name for p in out.iterdir()} == files | {"cohort.json"}


def test_shards_share_all_pairs(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", [(f"p{k}", files) for k, files in enumerate(pairs)])
    seen: list[str] = []
    for which in ("1/3", "2/3", "3/3"):
        before = set(complete(tmp_path / "out"))
        regtool("register", *QUICK, "--pairs", "t.csv", "-o", "out", "--shard", which).ok()
        seen += sorted(set(complete(tmp_path / "out")) - before)
        assert (tmp_path / "out" / f"cohort-{which.replace('/', '-of-')}.json").exists()
    assert sorted(seen) == ["p0", "p1", "p2", "p3"]
    assert seen[:2] == ["p0", "p3"]


def test_two_processes_of_a_launch(pairs: list[dict[str, Path]], tmp_path: Path) -> None:
    rows = [(f"p{k}", files) for k, files in enumerate(pairs)]
    rows.append(("bad", {**pairs[0], "moving": tmp_path / "nothing.nii.gz"}))
    write_table(tmp_path / "t.csv", rows)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, "-m", "regtool.cli.app", "register", *QUICK, "--pairs", "t.csv",
               "-o", "out"]  # fmt: skip
    ran = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True,
                         timeout=240, check=False)  # fmt: skip
    assert ran.returncode != 0, "one pair fails"
    assert set(complete(tmp_path / "out")) == {"p0", "p1", "p2", "p3"}
    summary = json.loads((tmp_path / "out" / "cohort.json").read_text())
    assert (summary["pairs"], summary["done"]) == (5, 4)
    assert [one["name"] for one in summary["failed"]] == ["bad"]
    assert "process 1 of 2" in ran.stderr and "process 2 of 2" in ran.stderr


def test_dry_run_writes_nothing(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", [(f"p{k}", files) for k, files in enumerate(pairs)])
    done = regtool("register", *QUICK, "--pairs", "t.csv", "-o", "out", "--dry-run").ok()
    assert json.loads(done.out)["to_do"] == ["p0", "p1", "p2", "p3"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--pairs", "t.csv"], "-o FOLDER"),
        (["a.nii", "b.nii", "--pairs", "t.csv", "-o", "out"], "FIXED belongs to one pair"),
        (["--pairs", "t.csv", "-o", "out", "--fixed-labels", "l.nii"], "the column fixed_labels"),
        (["--pairs", "t.csv", "-o", "out", "--roi", "l.nii"], "the column roi of the table"),
        (["--pairs", "t.csv", "-o", "out", "--report-pngs", "p"], "leave it out"),
        (["--pairs", "t.csv", "-o", "out", "--shard", "0/3"], "i from 1 to n"),
        (["--pairs", "t.csv", "-o", "out", "--shard", "4/3"], "i from 1 to n"),
        (["--pairs", "t.csv", "-o", "out", "--shard", "x"], "i from 1 to n"),
        (["a.nii", "b.nii", "--shard", "1/3"], "--pairs"),
        (["a.nii"], "missing MOVING"),
        ([], "missing FIXED"),
    ],
)
def test_wrong_use(
    args: list[str],
    words: str,
    pairs: list[dict[str, Path]],
    regtool: Program,
    tmp_path: Path,
) -> None:
    write_table(tmp_path / "t.csv", [("p", pairs[0])])
    ran = regtool("register", *args)
    assert ran.code == 2 and words in ran.err, ran.err
    assert not (tmp_path / "out").exists()


def test_what_would_stop_every_pair_is_told_once(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", [(f"p{k}", files) for k, files in enumerate(pairs)])
    args = ("register", "--pairs", "t.csv", "-o", "out")
    for more, code in ((("-m", "voxelmorf"), 2), (("-w", "nothing-like-it"), 4),
                       (("--set", "passes=none-such"), 2)):  # fmt: skip
        ran = regtool(*args, *more)
        assert ran.code == code, ran.err
        assert ran.err.count("regtool: error:") == 1
        assert "goes on with them" not in ran.err, "it would fail in the same way"


def test_a_page_of_all_pairs(
    pairs: list[dict[str, Path]], regtool: Program, tmp_path: Path
) -> None:
    rows = [("good", pairs[0]), ("lost", {**pairs[0], "moving": tmp_path / "nothing.nii.gz"})]
    write_table(tmp_path / "t.csv", rows)
    args = ("register", *METHOD, "--pairs", "t.csv", "-o", "out")
    ran = regtool(*args, "--report", "all.txt")
    assert ran.code == 2 and ".html" in ran.err
    assert regtool(*args, "--report", "all.html").code == 7
    page = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert "good" in page and "nothing.nii.gz: no such file" in page
    assert "data:image/" in page and "http://" not in page.replace("http://www.w3.org", "")
