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
    "nifti header": 300, "nifti-2 header": 150, "gzip stream": 150, "metaimage and nrrd": 200,
    "avi": 100, "pickled arrays": 300, "field": 200, "affine": 60, "composite": 1,
    "pairs table": 300, "evaluation table": 300, "label table": 300, "landmarks": 300,
    "tracings": 300, "record": 200, "config.json": 150, "safetensors": 150, "checkpoint": 300,
    "settings.json": 300, "--set": 300, "--set of train": 300, "-t": 200, "--data": 50, "names": 60,
    "other options": 30, "command line": 20, "Hub answers": 60,
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
