"""Training VoxelMorph with the command: killed and resumed runs equal uninterrupted ones."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from training_cases import weights
from warm_cli import WarmProcess

KILLED = """
import os, signal, threading, time

def watch():
    while not os.path.exists("killed/checkpoint.safetensors"):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
"""
"""Kills the process soon after it has written its first checkpoint."""


def command(method: str, ndim: int, folder: str) -> list[str]:
    """A run of a few steps on generated hearts, with a checkpoint after every second."""
    stages = ["--set", "slices_first.steps=3"] if ndim == 3 else []
    size = (32, 32) if ndim == 2 else (16, 32, 32)
    return [
        "train", "-m", method, "--preset", f"acdc-{ndim}d",
        "--data", f"phantom:heart{ndim}d?n=3&size=48", "-o", folder, "--set", "steps=8",
        "--batch" if ndim == 2 else "--set", "2" if ndim == 2 else "batch=1",
        "--set", f"preparation.size={size}",
        "--set", "checkpoint_every=2", "--set", "val_every=4", "--set", "log_every=1",
        "--threads", "1", *stages,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "ndim"),
    [("voxelmorph", 2), ("voxelmorph-diff", 2),
     pytest.param("voxelmorph", 3, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_killed_run_continues_as_if_nothing_had_happened(
    tmp_path: Path, warm: WarmProcess, method: str, ndim: int
) -> None:
    warm.run(command(method, ndim, "whole"), tmp_path).ok()
    killed = warm.run(command(method, ndim, "killed"), tmp_path, before=KILLED)
    assert killed.code == -signal.SIGKILL, killed.err
    assert not (tmp_path / "killed" / "weights").exists()
    warm.run(["train", "--resume", "-o", "killed", "--threads", "1"], tmp_path).ok()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
