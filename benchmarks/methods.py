"""Every method with weights on one table of pairs: Dice, folds, SD of J, HD95, seconds, memory.

    python benchmarks/methods.py acdc:PATH/TO/acdc --split val
    python benchmarks/methods.py pairs.csv optimise voxelmorph voxelmorph:z ldm-morph:z+50 greedy:z

Without methods: ``optimise``, ``greedy``, ``syn``, and every installed method that has weights for
these images, volumes also slice by slice (``:z``). ``NAME:z`` registers slice by slice, ``NAME+N``
refines by N steps, ``NAME/K=V`` sets an option of the method. Each method runs as ``regtool
register --pairs`` in a process of its own, on the files as they are, and is measured by ``regtool
evaluate``'s functions; labels only measure. Seconds are the median of the method's own ones
(``network`` and ``refine`` of the records), memory is the largest resident set of the process.
The last two columns compare Dice with the first method by Wilcoxon's paired test. With ``--keep``
the registrations stay in a folder, and what is there is not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from regtool.data.cases import PairCase, only
from regtool.data.readers import open_data
from regtool.engine.evaluate.items import Item, collect
from regtool.engine.evaluate.many import evaluate_all
from regtool.engine.evaluate.settings import Settings
from regtool.imaging.reading import read_image
from regtool.plugins import discovery

TRAINING_FREE = ("optimise", "greedy", "syn")
COLUMNS = ("dice", "hd95", "folds", "sd_jacobian")


@dataclass(frozen=True)
class Ran:
    """What a run of the program took: MiB of memory, and how it ended."""

    memory: float
    code: int


def installed(volumes: bool) -> list[str]:
    """Methods that can register these images without being trained first."""
    names = list(TRAINING_FREE)
    for name in discovery.names():
        method = discovery.load(name)
        ndims = {ref.ndim for ref in method.weights}
        if volumes and 3 in ndims:
            names.append(name)
        if 2 in ndims:
            names.append(f"{name}:z" if volumes else name)
    return names


def arguments(spec: str) -> list[str]:
    """``NAME[:AXIS][+N][/K=V...]`` as options of ``register``."""
    spec, *settings = spec.split("/")
    spec, _, refine = spec.partition("+")
    name, _, axis = spec.partition(":")
    more = ["--slices", axis] if axis else []
    more += ["--refine", refine] if refine else []
    for setting in settings:
        more += ["--set", setting]
    return ["-m", name, *more]


def table(path: Path, pairs: list[PairCase]) -> Path:
    """The pairs as ``--pairs`` reads them."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "fixed", "moving", "fixed_labels", "moving_labels"])
        for p in pairs:
            files = (p.fixed.image, p.moving.image, p.fixed.labels, p.moving.labels)
            writer.writerow([p.name, *("" if f is None else Path(f).absolute() for f in files)])
    return path


def register(spec: str, pairs: Path, out: Path, threads: int) -> Ran:
    """Run the program and wait for it."""
    command = [sys.executable, "-m", "regtool.cli.app", "register", *arguments(spec), "--pairs",
               str(pairs), "-o", str(out), "--threads", str(threads)]  # fmt: skip
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ran(usage.ru_maxrss / 1024, process.returncode)


def seconds(items: list[Item]) -> float:
    """Median of the method's own seconds."""
    found = [json.loads(item.record.read_text(encoding="utf-8"))["seconds"] for item in items]
    return statistics.median(s["network"] + s.get("refine", 0.0) for s in found)


def main() -> None:
    """Run all methods, evaluate them together, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a table of pairs, or READER:PATH")
    parser.add_argument("methods", nargs="*", metavar="NAME[:AXIS][+N][/K=V]")
    parser.add_argument("--split", help="train, val or test: these pairs only")
    parser.add_argument("--limit", type=int, help="so many pairs only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the registrations")
    parser.add_argument("--json", type=Path, help="everything that was measured")
    given = parser.parse_intermixed_args()
    pairs = open_data(given.data)
    pairs = (only(pairs, given.split) if given.split else pairs)[: given.limit]
    volumes = min(read_image(pairs[0].fixed.image).grid.size) > 1
    volumes = volumes and read_image(pairs[0].fixed.image).ndim == 3
    specs = given.methods or installed(volumes)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows = table(folder / "pairs.csv", pairs)
        items: dict[str, list[Item]] = {}
        ran: dict[str, Ran] = {}
        for spec in specs:
            out = folder / spec.replace("/", ",")
            ran[spec] = register(spec, rows, out, given.threads)
            if ran[spec].code not in (0, 7):
                print(f"{spec}: exit code {ran[spec].code}, left out", file=sys.stderr)
                continue
            items[spec] = collect([out], run=spec)
        metrics = Settings(metrics=("dice", "hd95", "folds", "sd_jacobian", "ncc"))
        found = evaluate_all([item for part in items.values() for item in part], metrics)
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        report(found, items, ran)


def report(found: dict, items: dict[str, list[Item]], ran: dict[str, Ran]) -> None:
    """The table: means (SD) over pairs."""
    tests = (found["comparison"] or {"tests": {}})["tests"]
    first = next(iter(items))
    print("| method | pairs | Dice | HD95 mm | folds % | SD J | seconds | MiB | Dice to "
          f"`{first}` | p |\n" + "|---" * 10 + "|")  # fmt: skip
    before = found["summary"][first]["before"]
    cells = [mean_sd(before.get(c)) for c in ("dice", "hd95")]
    print(f"| before | {len(items[first])} | {' | '.join(cells)} | | | | | | |")
    for spec, part in items.items():
        after = found["summary"][spec]["after"]
        cells = [mean_sd(after.get(c)) for c in COLUMNS]
        test = tests.get(spec, {}).get("dice")
        gap = ""
        if test is not None:
            p = "" if test["p"] is None else f"{test['p']:.3f}"
            gap = f"{test['mean_difference']:+.4f} | {p}"
        print(f"| `{spec}` | {len(part)} | {' | '.join(cells)} | {seconds(part):.2f} "
              f"| {ran[spec].memory:.0f} | {gap or ' | '} |")  # fmt: skip


def mean_sd(found: dict[str, float | None] | None) -> str:
    """``mean (SD)`` of a summary, without the SD of a single pair."""
    if found is None:
        return ""
    return f"{found['mean']:.3f}" + ("" if found["sd"] is None else f" ({found['sd']:.3f})")


if __name__ == "__main__":
    main()
