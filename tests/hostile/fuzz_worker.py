"""Runs blocks of inputs in forked workers, with limits on time, memory and what they may touch."""

from __future__ import annotations

import json
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from fuzz_seeds import Seeds
from fuzz_target import Target
from fuzz_watch import Watch

SECONDS = 4.0
"""Of processor time for one input; none needs a tenth of it."""
WALL = 1200.0
"""Seconds after which a worker that got no further is killed; a busy machine gives it few."""
ROOM = 768 * 2**20
"""Address space beyond what the libraries take."""
HYPOTHESIS = 5
"""Every so manieth block comes from hypothesis, where a target has a strategy."""

_SHARED = struct.Struct("qqqq")  # position, ok, refused, other


class TooLong(BaseException):
    """An input took more than SECONDS. No Exception, so that nobody mistakes it."""


@dataclass
class Result:
    """What became of a block: counts, and faults by signature."""

    tried: int = 0
    ok: int = 0
    refused: int = 0
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    cpu: float = 0.0
    slowest: float = 0.0


def run_block(
    target: Target, seeds: Seeds, seed: int, start: int, count: int, folder: Path
) -> Result:
    """Try the inputs ``start`` to ``start + count`` of a target; a crash costs one of them."""
    begin = time.monotonic()
    result = Result()
    at, stop = start, start + count
    generated = target.strategy is not None and (start // max(count, 1)) % HYPOTHESIS == 4
    while at < stop:
        shared = mmap.mmap(-1, _SHARED.size)
        _SHARED.pack_into(shared, 0, at, 0, 0, 0)
        report = folder / "report.json"
        report.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            _child(target, seeds, seed, at, stop, folder, shared, report, generated)
        status, used = _wait(child, shared)
        result.cpu += used
        reached, ok, refused, other = _SHARED.unpack_from(shared, 0)
        result.ok, result.refused = result.ok + ok, result.refused + refused
        if report.exists():
            told = json.loads(report.read_text())
            for signature, fault in told["faults"].items():
                _add(result.faults, signature, fault)
            result.slowest = max(result.slowest, told["slowest"])
        if status == 0:
            at = stop
            result.tried += ok + refused + other
            continue
        what = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit {status}"
        if status == -signal.SIGKILL:
            what = f"hang of more than {WALL:g} s"
        data = _left(folder, target)
        _add(result.faults, what, {"count": 1, "inputs": [{"index": reached, "data": data.hex()}]})
        result.tried += ok + refused + other + 1
        at = stop if generated else reached + 1
    result.seconds = time.monotonic() - begin
    return result


def _add(faults: dict[str, dict[str, Any]], signature: str, fault: dict[str, Any]) -> None:
    known = faults.setdefault(signature, {"count": 0, "inputs": []})
    known["count"] += fault["count"]
    known["inputs"] = (known["inputs"] + fault["inputs"])[:3]
    if "traceback" in fault:
        known.setdefault("traceback", fault["traceback"])


def _wait(child: int, shared: mmap.mmap) -> tuple[int, float]:
    """Exit status and processor time of a worker, which is killed when it stays at one input."""
    seen, since = -1, time.monotonic()
    pause = 0.002
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        position = _SHARED.unpack_from(shared, 0)[0]
        if position != seen:
            seen, since = position, time.monotonic()
        elif time.monotonic() - since > WALL:
            os.kill(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _left(folder: Path, target: Target) -> bytes:
    last = folder / "last"
    return last.read_bytes() if last.exists() else b""


def _child(
    target: Target,
    seeds: Seeds,
    seed: int,
    start: int,
    stop: int,
    folder: Path,
    shared: mmap.mmap,
    report: Path,
    generated: bool,
) -> None:
    code = 1
    try:
        _limit(folder)
        block = _Block(target, seeds, folder, shared, Watch(folder))
        try:
            if target.begin is not None:
                target.begin(folder)
            if generated:
                block.by_hypothesis(seed, start, stop - start)
            else:
                for index in range(start, stop):
                    block.one(index, target.make(Random(f"{target.name}/{seed}/{index}"), seeds))
        finally:
            block.watch.on = False
            if target.end is not None:
                target.end()
        text = json.dumps({"faults": block.faults, "slowest": block.slowest})
        report.write_text(text)
        code = 0
    except BaseException:
        os.dup2(os.open(folder / "broken", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _limit(folder: Path) -> None:
    """A fresh folder to work in, no memory to waste, no output, no input."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    for name in ("out", "weights", "home"):
        (work / name).mkdir(parents=True)
    temporary = folder / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    import tempfile

    tempfile.tempdir = str(temporary)
    os.environ["TMPDIR"], os.environ["HOME"] = str(temporary), str(work / "home")
    os.chdir(work)
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _ring)
    signal.signal(signal.SIGALRM, _ring)
    sys.dont_write_bytecode = True


def _ring(number: int, frame: FrameType | None) -> None:
    raise TooLong


class _Block:
    """Tries inputs one by one and counts what they come to."""

    def __init__(
        self, target: Target, seeds: Seeds, folder: Path, shared: mmap.mmap, watch: Watch
    ) -> None:
        self.target, self.seeds, self.watch = target, seeds, watch
        self.path = Path(target.file)
        self.last = folder / "last"
        self.shared = shared
        self.counts = [0, 0, 0]
        self.faults: dict[str, dict[str, Any]] = {}
        self.slowest = 0.0
        self.beside = {Path(name): seeds.bytes[name] for name in target.beside}

    def one(self, index: int, data: bytes) -> None:
        """Try one input."""
        from regtool.errors import RegtoolError

        _SHARED.pack_into(self.shared, 0, index, *self.counts)
        self.last.write_bytes(data)
        self._lay_out(data)
        begin = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL / 2)
        outcome, error = 0, None
        try:
            self.watch.on = True
            self.target.read(self.path, data)
        except RegtoolError:
            outcome = 1
        except BaseException as problem:
            outcome, error = 2, problem
        finally:
            self.watch.on = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.counts[outcome] += 1
        self.slowest = max(self.slowest, time.process_time() - begin)
        if error is not None:
            fault = {"count": 1, "inputs": [{"index": index, "data": data.hex()}],
                     "traceback": told(error)}  # fmt: skip
            _add(self.faults, signature(error), fault)
        _SHARED.pack_into(self.shared, 0, index + 1, *self.counts)

    def _lay_out(self, data: bytes) -> None:
        for path, content in self.beside.items():
            # What an input before this one may have replaced
            try:
                same = path.stat().st_size == len(content)
            except OSError:
                same = False
            if not same or path.parent.name == "weights":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        self.path.write_bytes(data)

    def by_hypothesis(self, seed: int, start: int, count: int) -> None:
        """As many inputs from the target's strategy."""
        import hypothesis

        assert self.target.strategy is not None
        position = [start]

        @hypothesis.seed(seed * 1_000_003 + start)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(self.target.strategy())
        def each(data: bytes) -> None:
            self.one(position[0], data)
            position[0] += 1

        each()
        for index in range(position[0], start + count):  # it found no more that are different
            self.one(index, self.target.make(Random(f"{self.target.name}/{seed}/{index}"),
                                             self.seeds))  # fmt: skip


def told(error: BaseException) -> str:
    """A traceback whose lines are not long."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(line[:300] for line in lines[-40:])


def signature(error: BaseException) -> str:
    """What tells one fault from another: the exception, and where in regtool it came up."""
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if "/regtool" in frame.filename or "/plugins/" in frame.filename:
            where = f" at {Path(frame.filename).name}:{frame.name}"
    return f"{type(error).__name__}{where}"
