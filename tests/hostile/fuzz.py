"""A fuzz campaign: ``python tests/hostile/fuzz.py --inputs 200000``; it goes on where it was ended.

Every input is made from the name of its target, the seed and its number alone, so that a fault can
be had again: ``--replay TARGET NUMBER``. A target may accept its input or raise RegtoolError; all
else is a fault: another exception, a crash, more than 4 s or 768 MiB, a file written outside of its
folder, an unpickled name, a process started, a connection to elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
for _name in [n for n in os.environ if n.startswith(("REGTOOL_", "HF_"))]:
    del os.environ[_name]
os.environ["HF_HUB_DISABLE_XET"] = "1"

from fuzz_seeds import make_seeds  # noqa: E402
from fuzz_target import Target, all_targets  # noqa: E402
from fuzz_worker import Result, run_block  # noqa: E402

BLOCK = 500
SCHEMA = 1


def prepare() -> None:
    """Import what targets import late, and keep to one thread, before any worker is forked."""
    import importlib

    for name in ("PIL.Image", "PIL.JpegImagePlugin", "safetensors.torch", "huggingface_hub",
                 "hypothesis.strategies", "scipy.ndimage", "scipy.stats", "typer.testing",
                 "jinja2", "regtool.report.pictures", "regtool.engine.dryrun",
                 "regtool.engine.evaluate.many", "regtool.engine.cohort.run"):  # fmt: skip
        importlib.import_module(name)
    import logging

    import SimpleITK as sitk
    import torch

    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    logging.disable(logging.CRITICAL)


def place() -> Path:
    """A new folder in memory, where the system has one."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="regtool-fuzz-", dir=memory if memory.is_dir() else None))


def shares(targets: Sequence[Target], inputs: int) -> dict[str, int]:
    """How many inputs each target gets."""
    whole = sum(t.share for t in targets)
    return {t.name: max(1, round(inputs * t.share / whole)) for t in targets}


class Campaign:
    """Counts by target, kept in a file after every block."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.state: dict[str, Any] = {"schema": SCHEMA, "seed": seed, "targets": {}}
        if path.exists():
            self.state = json.loads(path.read_text())
            if self.state["seed"] != seed:
                raise SystemExit(f"{path}: a campaign of seed {self.state['seed']}")

    def of(self, target: str) -> dict[str, Any]:
        """The counts of a target."""
        empty = {
            "tried": 0,
            "ok": 0,
            "refused": 0,
            "seconds": 0.0,
            "cpu": 0.0,
            "slowest": 0.0,
            "faults": {},
        }
        found: dict[str, Any] = self.state["targets"].setdefault(target, empty)
        return found

    def add(self, target: str, count: int, result: Result) -> None:
        """Take in a block of ``count`` inputs."""
        entry = self.of(target)
        entry["tried"] += count
        for name in ("ok", "refused", "seconds", "cpu"):
            entry[name] += getattr(result, name)
        entry["slowest"] = max(entry["slowest"], result.slowest)
        for signature, fault in result.faults.items():
            known = entry["faults"].setdefault(signature, {"count": 0, "inputs": []})
            known["count"] += fault["count"]
            known["inputs"] = (known["inputs"] + fault["inputs"])[:3]
            if "traceback" in fault:
                known.setdefault("traceback", fault["traceback"])
        self.save()

    def save(self) -> None:
        """Write the counts; the file is whole at any time."""
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.state, indent=1))
        temporary.replace(self.path)

    def summary(self) -> dict[str, Any]:
        """Totals, and counts and faults by target, without the inputs."""
        rows = {
            name: {
                "tried": e["tried"], "ok": e["ok"], "refused": e["refused"],
                "faults": {s: f["count"] for s, f in e["faults"].items()},
                "mended": {s: f["count"] for s, f in e.get("mended", {}).items()},
                "inputs_per_second": round(e["tried"] / e["seconds"], 1) if e["seconds"] else None,
                "inputs_per_cpu_second": round(e["tried"] / e["cpu"], 1) if e["cpu"] else None,
                "slowest_seconds": round(e["slowest"], 3),
            }
            for name, e in self.state["targets"].items()
        }  # fmt: skip
        total = {key: sum(row[key] for row in rows.values()) for key in ("tried", "ok", "refused")}
        total["faults"] = sum(sum(row["faults"].values()) for row in rows.values())
        seconds = sum(e["seconds"] for e in self.state["targets"].values())
        return {"schema": SCHEMA, "seed": self.state["seed"], "total": total,
                "seconds": round(seconds, 1), "targets": rows}  # fmt: skip


def run(campaign: Campaign, wanted: dict[str, int], seconds: float, quiet: bool) -> None:
    """Try what is missing to the wanted counts, the target with the least share done first."""
    prepare()
    targets = all_targets()
    folder = place()
    try:
        seeds = make_seeds(folder / "seeds")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            missing = {n: campaign.of(n)["tried"] / w for n, w in wanted.items()}
            name = min(missing, key=lambda n: missing[n])
            done = campaign.of(name)["tried"]
            if missing[name] >= 1:
                return
            count = min(BLOCK, wanted[name] - done)
            worker = folder / "worker"
            worker.mkdir(exist_ok=True)
            result = run_block(targets[name], seeds, campaign.state["seed"], done, count, worker)
            campaign.add(name, count, result)
            _tell_broken(worker)
            if not quiet:
                kinds, rate = len(campaign.of(name)["faults"]), count / result.seconds
                progress = f"{done + count} of {wanted[name]}, {rate:.0f}/s"
                print(f"{name}: {progress}, {kinds} kinds of fault", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def retry(campaign: Campaign) -> None:
    """Try the kept inputs of every fault again; kinds of fault that are gone count as mended."""
    prepare()
    targets, folder = all_targets(), place()
    try:
        seeds, worker = make_seeds(folder / "seeds"), folder / "worker"
        worker.mkdir()
        for name, entry in campaign.state["targets"].items():
            for signature, fault in list(entry["faults"].items()):
                again: set[str] = set()
                for kept in fault["inputs"]:
                    data = bytes.fromhex(kept["data"])
                    target = replace(targets[name], make=partial(_same, data), strategy=None)
                    again |= set(run_block(target, seeds, 0, 0, 1, worker).faults)
                if not again:
                    entry.setdefault("mended", {})[signature] = entry["faults"].pop(signature)
        campaign.save()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _same(data: bytes, rng: Random, seeds: Any) -> bytes:
    return data


def _tell_broken(worker: Path) -> None:
    broken = worker / "broken"
    if broken.exists():
        print(broken.read_text(), file=sys.stderr)
        broken.unlink()


def replay(target: Target, seed: int, number: int | None, data: bytes | None) -> int:
    """Try one input, in this process, with its traceback."""
    prepare()
    folder = place()
    try:
        seeds = make_seeds(folder / "seeds")
        if data is None:
            data = target.make(Random(f"{target.name}/{seed}/{number}"), seeds)
        sys.stdout.buffer.write(data[:2000] + b"\n")
        sys.stdout.flush()
        work = folder / "work"
        for name in ("out", "weights"):
            (work / name).mkdir(parents=True)
        for name in target.beside:
            (work / name).write_bytes(seeds.bytes[name])
        os.chdir(work)
        Path(target.file).write_bytes(data)
        if target.begin is not None:
            target.begin(folder)
        target.read(Path(target.file), data)
        print("accepted")
        return 0
    finally:
        os.chdir(HERE)
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the summary goes to stdout as JSON. Returns 1 when there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000, help="of all targets together")
    parser.add_argument("--counts", type=Path, help="JSON of inputs by target, instead")
    parser.add_argument("--targets", default="", help="comma list; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("fuzz-state.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so many")
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "NUMBER|FILE"))
    parser.add_argument("--faults", action="store_true", help="print the state's tracebacks only")
    parser.add_argument("--retry", action="store_true", help="try the kept inputs of faults again")
    parser.add_argument("-q", "--quiet", action="store_true")
    given = parser.parse_args(arguments)
    targets = all_targets()
    if given.replay:
        name, which = given.replay
        number = int(which) if which.isdigit() else None
        data = None if number is not None else Path(which).read_bytes()
        return replay(targets[name], given.seed, number, data)
    campaign = Campaign(given.state.absolute(), given.seed)
    if given.faults:
        for name, entry in campaign.state["targets"].items():
            for signature, fault in entry["faults"].items():
                number = fault["inputs"][0]["index"]
                print(f"== {name}: {signature}, {fault['count']} times, first {number}")
                print(fault.get("traceback", ""))
        return 0
    chosen = [targets[n] for n in given.targets.split(",") if n] or list(targets.values())
    wanted = shares(chosen, given.inputs)
    if given.counts is not None:
        wanted = json.loads(given.counts.read_text())
    if given.retry:
        retry(campaign)
    else:
        run(campaign, wanted, given.seconds, given.quiet)
    summary = campaign.summary()
    print(json.dumps(summary, indent=2))
    return int(summary["total"]["faults"] > 0)


if __name__ == "__main__":
    from fuzz_data import remember_readers

    remember_readers()
    sys.exit(main())
