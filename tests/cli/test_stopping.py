"""Ctrl-C while a field is sampled: the first one ends it well, the second one at once."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
import sampled_method
from rich.console import Console
from warm_cli import environment, script

from regtool.cli import progress
from regtool.cli.interrupts import FirstAsks

Pair = dict[str, Path]


class Running:
    """A registration in a process of its own, whose messages go to a file or a terminal."""

    def __init__(self, folder: Path, pair: Pair, *more: str, terminal: bool = False) -> None:
        self.folder, self.seen = folder, b""
        path = os.pathsep.join(sampled_method.install(folder / "site"))
        self.reader, writer = pty.openpty() if terminal else os.pipe()
        images = str(pair["fixed"]), str(pair["moving"])
        self.process = subprocess.Popen(
            [str(script()), "register", *images, "-o", "out_", *more],
            cwd=folder, env=environment({"PYTHONPATH": path, "COLUMNS": "120"}),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer,
        )  # fmt: skip
        os.close(writer)

    def wait_for(self, text: str) -> None:
        """Wait until the messages hold ``text``."""
        end = time.monotonic() + 90
        while text.encode() not in self.seen:
            assert time.monotonic() < end, self.seen
            if not self._read():
                break
        assert text.encode() in self.seen, self.seen

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Exit code and messages."""
        while self._read():
            pass
        code = self.process.wait(timeout=90)
        os.close(self.reader)
        return code, self.seen.decode()

    def left(self) -> list[str]:
        return sorted(p.name for p in self.folder.iterdir() if p.name.startswith(("out_", ".reg")))

    def _read(self) -> bool:
        ready, _, _ = select.select([self.reader], [], [], 90)
        try:
            new = os.read(self.reader, 1 << 16) if ready else b""
        except OSError:  # a terminal whose other end is closed
            new = b""
        self.seen += new
        return bool(new)


SLOW = ("-m", "sampled", "--set", "steps=400", "--set", "delay=0.1", "--set", "previews=1")


def started(folder: Path, tiny: Pair, *more: str) -> Running:
    """A slow sampling that has come to its first steps; its figures are on the terminal."""
    running = Running(folder, tiny, *SLOW, *more, terminal=True)
    running.wait_for("local_ncc")
    return running


def test_the_first_one_ends_the_sampling_and_writes_the_best(tiny: Pair, tmp_path: Path) -> None:
    running = started(tmp_path, tiny)
    running.interrupt()
    code, told = running.end()
    assert code == 0, told
    assert "stopping after this step" in told and "stopped by request" in told
    record = json.loads((tmp_path / "out_regtool.json").read_text("utf-8"))
    (one,) = record["sampling"]["samples"]
    assert (one["reason"], one["steps"] < 400) == ("requested", True)
    assert record["stopped_at"] == one["stopped_at"] > 0
    assert record["warnings"][0].startswith(f"stopped by request at level {record['stopped_at']}")
    assert {"State.safetensors", "PreviewScores.csv", "1Warp.nii.gz"} <= set(record["outputs"])


def test_the_second_one_aborts_and_leaves_nothing(tiny: Pair, tmp_path: Path) -> None:
    running = started(tmp_path, tiny, "--set", "delay=3")
    running.interrupt()
    running.wait_for("stopping after this step")
    running.interrupt()
    code, told = running.end()
    assert code == 130 and "stopped by SIGINT" in told
    assert running.left() == []


def test_other_methods_are_interrupted_as_ever(
    tiny: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sampled_method.DEAF, "1")
    running = started(tmp_path, tiny)
    running.interrupt()
    code, told = running.end()
    assert code == 130 and "stopped by SIGINT" in told and "stopping after" not in told
    assert running.left() == []


def test_only_the_first_interrupt_is_a_wish() -> None:
    with FirstAsks() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with FirstAsks() as asked:
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not asked()


def test_ignored_interrupts_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with FirstAsks() as asked:
            signal.raise_signal(signal.SIGINT)
            assert not asked()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


class Screen(io.StringIO):
    """A terminal to write on."""

    def isatty(self) -> bool:
        return True


def test_steps_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.steps() as bar:
        assert bar is None, "stderr is no terminal here"
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress.steps(quiet=True) as bar:
        assert bar is None
    with progress.steps() as bar:
        assert bar is not None
        assert screen.getvalue() == "", "nothing before there is something to count"
        bar.start("preparing", 0, 2)
        bar.start("main", 3, 10)
        bar.update(7, 10, "loss 0.5")
        bar.update(8, 10)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).rpartition("main")[2]
    assert " 8/10 " in last and "loss 0.5" in last


def test_figures_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.bar() as watcher:
        assert watcher is None, "stderr is no terminal here"
    monkeypatch.setattr("sys.stderr", Screen())
    with progress.bar(quiet=True) as watcher:
        assert watcher is None
    with progress.bar() as watcher:
        assert watcher is not None
        watcher("register", 1, 4)
        for number in range(20):
            watcher.show({"step": float(number), "local_ncc": 0.5 + number / 1000})
        shown = Console(file=io.StringIO(), width=80)
        shown.print(watcher)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "local_ncc" in text and "0.519" in text and "0.512" in text and "0.511" not in text
    assert "register" in text
