"""Faults at every point where a command writes: ``python tests/faults/inject.py``.

Each fault is one run of a command that is struck once (a signal, a full disk, a folder that goes,
…) and a second run after it. It is survived when no file under a final name is partial, no
checkpoint is lost, the command ends with its documented exit code and one line, and the second run
comes to the result of a run without a fault and leaves no temporary files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fault_scenarios as scenarios  # noqa: E402
from fault_injector import SIGNALS, Injector, mounted  # noqa: E402
from fault_scenarios import Scenario  # noqa: E402

SIZES = (60, 200, 700, 1500, 3000, 6000, 12000)
"""Bytes after which a process is killed in the middle of writing a file."""
ROOMS = (0, 8, 24, 48, 96, 160)
"""KiB left on a small disk."""


def may_mount() -> bool:
    """Whether file systems can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder) / "x", 2**20):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def hub_files() -> dict[str, bytes]:
    """Weights of the toy method on the loopback Hub."""
    from safetensors.torch import save
    from weights_toy import toy_config, toy_network

    return {
        "README.md": b"# Toy\n",
        "config.json": json.dumps(toy_config()).encode(),
        "model.safetensors": save(toy_network().state_dict()),
    }


class Everything:
    """All scenarios, with the Hub that one of them needs."""

    def __init__(self, root: Path) -> None:
        from loopback_hub import Hub
        from weights_toy import REPOSITORY

        files = hub_files()
        hub = Hub()
        self.server = hub.start()
        commit = hub.add(REPOSITORY, dict(files))
        self.made = {
            "register": scenarios.register(root / "in register"),
            "cohort": scenarios.cohort(root / "in cohort"),
            "train": scenarios.train(root / "in train"),
            "pull": scenarios.pull(root / "in pull", hub.url, files, commit),
        }

    def get(self, name: str, root: Path, injector: Injector) -> Scenario:
        """A scenario by name; ``over`` needs an earlier result and is made when asked for."""
        if name == "over" and name not in self.made:
            earlier = injector.reference(self.made["register"])
            self.made[name] = scenarios.over(root / "in over", earlier)
        return self.made[name]

    def close(self) -> None:
        """Stop the Hub."""
        self.server.shutdown()
        self.server.server_close()


@dataclass(frozen=True)
class Fault:
    """One fault of a scenario: its kind, and which point, size or file it is about."""

    scenario: str
    kind: str
    number: int

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.scenario} {self.kind} {self.number}"

    def strike(self, injector: Injector, scenario: Scenario) -> None:
        """Try it."""
        if self.kind in ("lose", "cut"):
            injector.lost_input(scenario, self.number, self.kind, VICTIMS[self.scenario])
        elif self.kind == "read-only":
            injector.read_only(scenario)
        elif self.kind in ("limited", "memory", "small_disk", "together"):
            getattr(injector, self.kind)(scenario, self.number)
        else:
            injector.strike(scenario, self.kind, self.number)


VICTIMS = {"register": "moving.nii.gz", "cohort": "1/moving.nii.gz",
           "train": "data/1_moving.nii.gz"}  # fmt: skip
"""The input that goes while a command reads."""


def faults(name: str, points: int) -> list[Fault]:
    """All faults of a scenario whose command has so many points at which it writes."""
    every = range(1, points + 1)
    found = [Fault(name, action, n) for action in (*SIGNALS, "ENOSPC", "EIO") for n in every]
    found += [Fault(name, "remove", n) for n in every[::3]]
    found += [Fault(name, "clock", n) for n in every[::7]]
    found += [Fault(name, "together", n) for n in every[::4]]
    found += [Fault(name, "limited", size) for size in SIZES]
    found += [Fault(name, "memory", room) for room in (1, 4, 16, 64)]
    if name in VICTIMS:
        found += [Fault(name, way, n) for way in ("lose", "cut") for n in range(1, 8)]
    if may_mount():
        found += [Fault(name, "small_disk", room) for room in ROOMS]
        found += [Fault(name, "read-only", 0)] if name != "over" else []
    return found


def sampled(found: Sequence[Fault]) -> list[Fault]:
    """In an order in which every beginning is a fair sample: one of each scenario and kind first.

    Within a kind, the order is that of a hash of the name.
    """
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in sorted(found, key=lambda f: hashlib.sha256(f.name.encode()).digest()):
        groups.setdefault((fault.scenario, fault.kind), []).append(fault)
    ranked = [
        (0.0 if k == 0 else (k + 0.5) / len(group), fault)
        for group in groups.values()
        for k, fault in enumerate(group)
    ]
    return [fault for _, fault in sorted(ranked, key=lambda pair: pair[0])]


def campaign(
    injector: Injector, every: Everything, root: Path, names: Sequence[str], most: int,
    state: Path | None,
) -> None:  # fmt: skip
    """Try up to ``most`` faults of the named scenarios; those in the file ``state`` are done."""
    tally = injector.tally
    done: list[str] = []
    if state is not None and state.exists():
        kept = json.loads(state.read_text(encoding="utf-8"))
        done, tally.tried, tally.failures = kept["done"], kept["tried"], kept["failures"]
    found: list[Fault] = []
    for name in names:
        scenario = every.get(name, root, injector)
        injector.reference(scenario)
        points = len(injector.points[scenario.name])
        print(f"{scenario.name}: {points} points", file=sys.stderr)
        found += faults(name, points)
    for fault in sampled(found)[:most]:
        if fault.name in done:
            continue
        fault.strike(injector, every.get(fault.scenario, root, injector))
        done.append(fault.name)
        if state is not None:
            content = {"done": done, "tried": tally.tried, "failures": tally.failures}
            temporary = state.with_suffix(".tmp")
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
            temporary.replace(state)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the summary goes to stdout as JSON. Returns 1 for a fault not survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("register", "over", "cohort", "train", "pull")
    parser.add_argument("--scenarios", default=",".join(names))
    parser.add_argument("--faults", type=int, default=10**6, metavar="N", help="a sample of N")
    parser.add_argument("--state", type=Path, help="kept here, so that a later run goes on")
    parser.add_argument("--only", nargs=3, metavar=("SCENARIO", "ACTION", "NUMBER"))
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="regtool-faults-", dir=memory if memory.is_dir() else None))
    injector = Injector(root, second=given.only is None)
    every = Everything(root)
    try:
        if given.only:
            name, action, number = given.only
            injector.strike(every.get(name, root, injector), action, int(number))
        else:
            state = None if given.state is None else given.state.absolute()
            campaign(injector, every, root, given.scenarios.split(","), given.faults, state)
    finally:
        injector.close()
        every.close()
        shutil.rmtree(root, ignore_errors=True)
    tally = injector.tally
    tried = sum(tally.tried.values())
    summary = {"schema": 1, "tried": tried, "survived": tried - len(tally.failures),
               "seconds": round(time.monotonic() - begin, 1), "kinds": tally.tried,
               "failures": tally.failures}  # fmt: skip
    print(json.dumps(summary, indent=2))
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
