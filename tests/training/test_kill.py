"""Runs that are killed at any point go on as if nothing had happened: bit for bit on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Rows
from warm_cli import Ran, WarmProcess

Program = Callable[..., Ran]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOY = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import training_toy
training_toy.install()
"""
"""Makes the toy method known in the process that trains."""


@pytest.fixture(scope="module")
def program(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """``regtool train`` with the toy method: arguments, and what the environment has besides."""
    folder = tmp_path_factory.mktemp("home")

    def run(*arguments: object, **environment: str) -> Ran:
        words = ["train", "--threads", "1", "--device", "cpu", *map(str, arguments)]
        return warm.run(words, folder, environment, before=TOY)

    return run


def _start(table: Path) -> list[str]:
    return ["-m", "toy", "--data", str(table), "--set", "ema=0.9", "--set", "log_every=2",
            "--set", "training.augment.gamma=0.2"]  # fmt: skip


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, program: Program, table: Path) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    done = program(*_start(table), "-o", folder).ok()
    assert done.out == ""
    return folder


@pytest.mark.parametrize(
    ("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGTERM", 130), ("SIGINT", 130)]
)
def test_killed_run_continues_bit_for_bit(
    tmp_path: Path,
    program: Program,
    table: Path,
    straight: Path,
    name: str,
    code: int,
    rows: Callable[[Path], Rows],
) -> None:
    folder = tmp_path / "run"
    number = str(int(getattr(signal, name)))
    cut = program(*_start(table), "-o", folder, TOY_DIE_AT="7", TOY_SIGNAL=number)
    assert cut.code == code, cut.err
    if code == 130:
        assert cut.err.strip().splitlines()[-1].startswith("regtool: error: interrupted at step 8")
    program("--resume", "-o", folder, "-q").ok()
    assert rows(folder) == rows(straight)
    for name in ("stages/main.safetensors", "weights/toy-tiny/model.safetensors"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes()
    assert not list(folder.rglob("*.tmp"))


def test_run_killed_before_its_first_checkpoint(
    tmp_path: Path, program: Program, table: Path, straight: Path, rows: Callable[[Path], Rows]
) -> None:
    folder = tmp_path / "run"
    program(*_start(table), "-o", folder).ok()
    for name in ("checkpoint.safetensors", "log.csv"):
        (folder / name).unlink()
    program("--resume", "-o", folder).ok()
    assert rows(folder) == rows(straight)


def test_messages_and_exit_codes(
    tmp_path: Path, program: Program, table: Path, straight: Path
) -> None:
    again = program(*_start(table), "-o", straight)
    assert again.code == 8 and "not empty" in again.err
    unclear = program(*_start(table), "-o", tmp_path / "x", "--time-limit", "90")
    assert unclear.code == 2 and "90s" in unclear.err
    shown = program("--resume", "-o", straight, "--json", "-q")
    assert shown.code == 0 and '"ending": "finished"' in shown.out
    assert shown.err == ""


@pytest.mark.slow
def test_two_processes(tmp_path: Path, table: Path, rows: Callable[[Path], Rows]) -> None:
    """Under a launcher each process takes its share of the batch; an interrupted run goes on."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), str(HERE)])

    def launch(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
             "-m", "training_toy", "--threads", "1", "--device", "cpu", *arguments],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True, timeout=300, check=True,
        )  # fmt: skip

    launch(*_start(table), "-o", str(tmp_path / "whole"))
    launch(*_start(table), "-o", str(tmp_path / "parts"), "--set", "pause=0.0",
           "--steps", "12", "--time-limit", "1d")  # fmt: skip
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert len(rows(tmp_path / "whole")) == 9
