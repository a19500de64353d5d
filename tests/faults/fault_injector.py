"""Strikes a command with one fault, runs it again, and judges what is left."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fault_scenarios import Scenario, checkpoint_step, final_files, leftovers
from fault_server import FaultProcess, before
from warm_cli import Ran

SIGNALS = {"SIGKILL": (-9,), "SIGTERM": (130, 0), "SIGINT": (130, 0)}
"""Exit codes after a signal; 0 where all had been written already."""
PATIENCE = 5.0
"""Seconds that a process may work while another one pauses, which it may wait for."""


@dataclass
class Tally:
    """Faults tried and survived, by scenario and kind."""

    tried: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)

    def add(self, kind: str, problem: str | None, what: str) -> None:
        """Count a fault; ``problem`` says why it was not survived."""
        self.tried[kind] = self.tried.get(kind, 0) + 1
        tried = sum(self.tried.values())
        if tried % 20 == 0:
            print(f"{tried} faults, {len(self.failures)} not survived", file=sys.stderr)
        if problem is not None:
            self.failures.append({"kind": kind, "fault": what, "problem": problem})
            print(f"NOT SURVIVED {kind}, {what}: {problem}", file=sys.stderr)


class Injector:
    """Strikes the commands of scenarios, and judges what they leave."""

    def __init__(self, root: Path, second: bool = False) -> None:
        self.root = root
        self.server = FaultProcess(root / "streams")
        self.other = FaultProcess(root / "streams2") if second else None
        self.references: dict[str, Path] = {}
        self.points: dict[str, list[str]] = {}
        self.tally = Tally()

    def close(self) -> None:
        """End the forking processes."""
        self.server.close()
        if self.other is not None:
            self.other.close()

    # -- runs --------------------------------------------------------------------------------

    def work(self, scenario: Scenario, name: str = "work") -> Path:
        """A fresh work folder with the scenario's inputs."""
        work = self.root / name
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(scenario.inputs, work, symlinks=True)
        return work

    def run(
        self,
        scenario: Scenario,
        work: Path,
        hook: str = "",
        again: bool = False,
        server: FaultProcess | None = None,
    ) -> Ran:
        """Run the command of a scenario; ``hook`` is Python that strikes."""
        arguments = (scenario.again if again else scenario.command)(work)
        code = f"{scenario.setup or before()}\n{hook}"
        return (server or self.server).run(arguments, work, scenario.environment, code)

    def reference(self, scenario: Scenario) -> Path:
        """The outputs of a run without a fault, and its points."""
        if scenario.name not in self.references:
            work = self.work(scenario, "reference")
            listing = self.root / "listing"
            listing.unlink(missing_ok=True)
            ran = self.run(scenario, work, install(work, 0, "list", listing))
            assert ran.code == 0, ran.err
            kept = self.root / f"reference {scenario.name}"
            (work / "out").rename(kept)
            self.references[scenario.name] = kept
            self.points[scenario.name] = listing.read_text(encoding="utf-8").splitlines()
        return self.references[scenario.name]

    # -- faults ------------------------------------------------------------------------------

    def strike(self, scenario: Scenario, action: str, number: int) -> None:
        """One fault at one point."""
        self.reference(scenario)
        points = self.points[scenario.name]
        point = points[number - 1].replace(str(self.root), "") if number <= len(points) else "?"
        work = self.work(scenario)
        ran = self.run(scenario, work, install(work, number, action))
        lost = self._promised(scenario, number) if action == "SIGKILL" else -1
        codes = SIGNALS.get(action) or ((0, *scenario.refused) if action != "clock" else (0,))
        what = f"{action} at {number}: {point}"
        self._judge(scenario, work, ran, codes, action.partition(":")[0], what, lost)

    def _promised(self, scenario: Scenario, number: int) -> int:
        """Whether a checkpoint had been renamed into place before a point: 0 if so, else -1."""
        done = self.points[scenario.name][: number - 1]
        renamed = any(p.startswith("os.rename") and "/checkpoint.safe" in p for p in done)
        return 0 if renamed else -1

    def limited(self, scenario: Scenario, size: int) -> None:
        """Killed by the system while a file grows beyond ``size`` bytes, whoever writes it."""
        self.reference(scenario)
        hook = ("import resource\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
                f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
                "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))")  # fmt: skip
        work = self.work(scenario)
        ran = self.run(scenario, work, hook)
        self._judge(scenario, work, ran, (-25, 0), "killed in the middle of a file",
                    f"beyond {size} bytes")  # fmt: skip

    def memory(self, scenario: Scenario, mebibytes: int) -> None:
        """No more address space than the libraries took, and a little."""
        self.reference(scenario)
        hook = ("import resource\npages = int(open('/proc/self/statm').read().split()[0])\n"
                f"room = pages * resource.getpagesize() + {mebibytes} * 2**20\n"
                "resource.setrlimit(resource.RLIMIT_AS, (room, room))")  # fmt: skip
        work = self.work(scenario)
        ran = self.run(scenario, work, hook)
        codes = (0, 3, 4, 6, 7, 8, -6, -11) if ran.code < 0 else (0, 3, 4, 6, 7, 8)
        self._judge(scenario, work, ran, codes, "out of memory", f"{mebibytes} MiB")

    def small_disk(self, scenario: Scenario, kibibytes: int) -> None:
        """A file system with little room, which then gets more."""
        self.reference(scenario)
        work = self.work(scenario)
        out = work / "out"
        held = sum(map(len, final_files(out).values())) + 80 * 1024 if out.exists() else 0
        with mounted(out, held + 3 * 4096 + kibibytes * 1024) as grow:
            ran = self.run(scenario, work)
            grow()
            self._judge(scenario, work, ran, (0, *scenario.refused), "full disk",
                        f"{kibibytes} KiB left")  # fmt: skip

    def read_only(self, scenario: Scenario) -> None:
        """A file system that cannot be written, and then can."""
        self.reference(scenario)
        work = self.work(scenario)
        with mounted(work / "out", 2**26) as grow:
            subprocess.run(["mount", "-o", "remount,ro", str(work / "out")], check=True)
            ran = self.run(scenario, work)
            grow()
            self._judge(scenario, work, ran, scenario.refused, "read-only output", "all the time")

    def lost_input(self, scenario: Scenario, number: int, action: str, victim: str) -> None:
        """An input that goes, or loses its half, when the ``number``-th file is read."""
        self.reference(scenario)
        work = self.work(scenario)
        hook = install(work, number, f"{action}:{work / victim}", whole=True)
        ran = self.run(scenario, work, hook)
        shutil.copyfile(scenario.inputs / victim, work / victim)
        what = f"{victim} when file {number} is read"
        self._judge(scenario, work, ran, (0, 3, 7), f"input {action}", what)

    def together(self, scenario: Scenario, number: int) -> None:
        """A second process with the same output from start to end, while one pauses at a point."""
        assert self.other is not None
        self.reference(scenario)
        work = self.work(scenario)
        gate = self.root / "gate"
        for path in (gate, gate.with_name("gate.here")):
            path.unlink(missing_ok=True)
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(self.run, scenario, work, install(work, number, f"pause:{gate}"))
            while not gate.with_name("gate.here").exists() and not one.done():
                time.sleep(0.005)
            other = pool.submit(self.run, scenario, work, server=self.other)
            with contextlib.suppress(TimeoutError):  # it may wait for the first one
                other.result(timeout=PATIENCE)
            gate.touch()
            first, two = one.result(), other.result()
        what = f"while the other pauses at {number}"
        codes = (0, *scenario.refused)
        problem = self._ended(two, codes) or self._ended(first, codes)
        if problem is None and first.code and two.code:
            problem = f"neither came through ({first.err} {two.err})"
        if problem is not None:
            self.tally.add(f"{scenario.name}: two processes", problem, what)
            return
        self._judge(scenario, work, first, codes, "two processes", what)

    # -- judgement ---------------------------------------------------------------------------

    def _judge(
        self,
        scenario: Scenario,
        work: Path,
        ran: Ran,
        codes: Sequence[int],
        kind: str,
        what: str,
        lost: int = -1,
    ) -> None:
        kind = f"{scenario.name}: {kind}"
        problem = self._ended(ran, codes)
        try:
            reference = self.references[scenario.name]
            scenario.check(work / "out", reference)
            if lost >= 0:
                assert checkpoint_step(work / "out") >= lost, "the checkpoint is lost"
            if problem is None:
                second = self.run(scenario, work, again=True)
                assert second.code == 0, f"the second run ends with {second.code}: {second.err}"
                scenario.same(work / "out", reference)
                left = [n for n in leftovers(work / "out") if ".incomplete" not in n]
                assert not left, f"left behind: {left}"
        except AssertionError as error:
            problem = problem or str(error)
        except Exception as error:
            problem = problem or "".join(traceback.format_exception(error))[-800:]
        self.tally.add(kind, problem, what)

    def _ended(self, ran: Ran, codes: Sequence[int]) -> str | None:
        """What is wrong about how a run ended."""
        if ran.code not in codes:
            return f"exit {ran.code}: {ran.err[-1500:]}"
        if "Traceback" in ran.err or "unexpected" in ran.err:
            return f"a traceback: {ran.err[-1500:]}"
        if ran.code > 0 and not ran.err.strip().splitlines()[-1].startswith("regtool: error: "):
            return f"no line at the end: {ran.err[-500:]}"
        return None


def install(
    work: Path, number: int, action: str, listing: Path | None = None, whole: bool = False
) -> str:
    """Python that installs the hook in a command's process."""
    folder = str(work if whole else work / "out")
    log = None if listing is None else str(listing)
    return f"import fault_hook\nfault_hook.install({folder!r}, {number}, {action!r}, {log!r})"


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[object]:
    """A file system of ``size`` bytes in a folder, with what was there; gives what enlarges it."""
    kept = folder.with_name("kept")
    if folder.exists():
        folder.rename(kept)
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(options, check=True, capture_output=True)
    try:
        if kept.exists():
            shutil.copytree(kept, folder, dirs_exist_ok=True)

        def grow() -> None:
            subprocess.run(["mount", "-o", "remount,rw,size=64m", str(folder)], check=True)

        yield grow
    finally:
        subprocess.run(["umount", str(folder)], check=True)
