"""A small campaign of the fuzzer; ``python tests/hostile/fuzz.py`` runs a large one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_target import all_targets

HERE = Path(__file__).parent
COUNTS = {
    "nifti header": 150, "nifti-2 header": 75, "gzip stream": 75, "metaimage and nrrd": 100,
    "avi": 50, "pickled arrays": 150, "field": 100, "affine": 30, "composite": 1,
    "pairs table": 150, "evaluation table": 150, "label table": 150, "landmarks": 150,
    "tracings": 150, "record": 100, "config.json": 75, "safetensors": 75, "checkpoint": 150,
    "settings.json": 150, "--set": 150, "--set of train": 150, "-t": 100, "--data": 25, "names": 30,
    "other options": 15, "command line": 10, "Hub answers": 30, "listing of Learn2Reg": 30,
    "side files of data sets": 40, "voxel landmarks": 100, "raw volume": 100, "pickled volumes": 40,
    "thorax": 5, "outputs of a record": 20, "sampling state": 40,
}  # fmt: skip
"""Inputs of each target, by what they cost."""


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What a small campaign says; it works in a process of its own."""
    folder = tmp_path_factory.mktemp("fuzz")
    counts = folder / "counts.json"
    counts.write_text(json.dumps(COUNTS))
    command = [sys.executable, str(HERE / "fuzz.py"), "--seed", "7", "--counts", str(counts),
               "--state", str(folder / "state.json"), "-q"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("target", COUNTS)
def test_hostile_inputs(target: str, summary: dict[str, dict[str, object]]) -> None:
    """Every input is accepted or refused in a sentence; some are not sound, so some are refused."""
    row = summary["targets"][target]
    assert isinstance(row, dict)
    assert row["faults"] == {}
    assert row["tried"] == row["ok"] + row["refused"] == COUNTS[target]


def test_every_target_has_its_share() -> None:
    assert set(COUNTS) == set(all_targets())
