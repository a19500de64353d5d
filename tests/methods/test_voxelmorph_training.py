"""Training VoxelMorph with the command: killed and resumed runs equal uninterrupted ones."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_cases import weights

PROGRAM = str(Path(sys.executable).with_name("regtool"))


def command(method: str, ndim: int, folder: Path) -> list[str]:
    """A run of a few steps on generated hearts, with a checkpoint after every second."""
    stages = ["--set", "slices_first.steps=3"] if ndim == 3 else []
    return [
        PROGRAM, "train", "-m", method, "--preset", f"acdc-{ndim}d",
        "--data", f"phantom:heart{ndim}d?n=3&size=48", "-o", str(folder), "--set", "steps=8",
        "--batch" if ndim == 2 else "--set", "2" if ndim == 2 else "batch=1",
        "--set", "checkpoint_every=2", "--set", "val_every=4", "--set", "log_every=1",
        "--threads", "1", *stages,
    ]  # fmt: skip


def finish(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("method", "ndim"),
    [("voxelmorph", 2), ("voxelmorph-diff", 2),
     pytest.param("voxelmorph", 3, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_killed_run_continues_as_if_nothing_had_happened(tmp_path, method, ndim):
    finish(command(method, ndim, tmp_path / "whole"))
    words = command(method, ndim, tmp_path / "killed")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    finish([PROGRAM, "train", "--resume", "-o", str(tmp_path / "killed"), "--threads", "1"])
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
