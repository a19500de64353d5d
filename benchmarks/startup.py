"""Times what a user waits for besides the method itself: help, listing, and register's overhead.

Every figure is the median wall time of fresh processes on one thread. The overhead of ``register``
is its wall time less that of ``import torch`` and less the seconds that the record gives for the
network itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

GOALS = {"regtool --help": 0.3, "regtool methods": 0.5, "overhead of register": 1.5}


def seconds(command: Sequence[str], folder: Path) -> float:
    """Wall time of one process, which must succeed."""
    environment = {**os.environ, "REGTOOL_THREADS": "1", "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def overhead(program: str, folder: Path, method: Sequence[str]) -> tuple[float, float]:
    """Wall time of a registration of the 2-D demo pair, and that of its network alone."""
    command = [program, "register", *method, "fixed.nii.gz", "moving.nii.gz", "-o", "out_", "-q",
               "--overwrite"]  # fmt: skip
    whole = seconds(command, folder)
    record = json.loads((folder / "out_regtool.json").read_text(encoding="utf-8"))
    return whole, float(record["seconds"]["network"])


def measure(repeats: int) -> dict[str, float]:
    """All figures in seconds, by name."""
    program = str(Path(sys.executable).with_name("regtool"))
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds([program, "demo", "--kind", "heart2d"], folder)
        for _ in range(repeats):
            for title, command in {
                "python": [sys.executable, "-c", "pass"],
                "import torch": [sys.executable, "-c", "import torch"],
                "regtool --help": [program, "--help"],
                "regtool methods": [program, "methods"],
            }.items():
                found.setdefault(title, []).append(seconds(command, folder))
            torch = found["import torch"][-1]
            for title, method in {
                "voxelmorph": ("-m", "voxelmorph", "-w", "none"),
                "ldm-morph": ("-m", "ldm-morph"),
                "optimise": ("-m", "optimise", "--set", "iterations=10,5"),
            }.items():
                whole, network = overhead(program, folder, method)
                found.setdefault(f"register -m {title}", []).append(whole)
                found.setdefault("overhead of register", []).append(whole - torch - network)
    return {title: statistics.median(times) for title, times in found.items()}


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.repeats)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'seconds (median)':24}{'found':>8}{'goal':>8}")
    for title, value in found.items():
        goal = f"{GOALS[title]:8.2f}" if title in GOALS else ""
        print(f"{title:24}{value:8.2f}{goal}")


if __name__ == "__main__":
    main()
