"""How long a registration takes beside other work, by how PyTorch's threads wait for each other.

    python benchmarks/busy.py [--beside N] [METHOD ...]

Registers the generated heart with each method, without and with N processes that keep N cores
busy (default 1), and prints seconds: as regtool sets it (threads sleep), with threads that spin as
OpenMP has it by itself, and with one thread. The order of the three changes from round to round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "sleeping": {},
    "spinning": {"GOMP_SPINCOUNT": "300000"},  # OpenMP's own value
    "one thread": {"REGTOOL_THREADS": "1"},
}


def _spin() -> None:
    while True:
        pass


def _seconds(method: str, folder: Path, settings: dict[str, str]) -> float:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "REGTOOL_"))}
    command = [str(Path(sys.executable).with_name("regtool")), "register", "-q", "-m", method]
    command += ["fixed.nii.gz", "moving.nii.gz", "-o", "o_", "--overwrite"]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env={**kept, **settings}, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print one line for each method and load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", default=["optimise", "fsdiffreg", "voxelmorph"])
    parser.add_argument("--beside", type=int, default=1, help="busy processes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| method | busy cores | " + " | ".join(f"{way}, s" for way in WAYS) + " |")
    print("|---|---:|" + "---:|" * len(WAYS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        regtool = str(Path(sys.executable).with_name("regtool"))
        subprocess.run([regtool, "demo", "-q"], cwd=folder, check=True)
        for method in options.methods:
            for beside in (0, options.beside):
                others = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(beside)]
                for other in others:
                    other.start()
                found: dict[str, list[float]] = {way: [] for way in WAYS}
                for number in range(options.rounds):
                    order = list(WAYS)[number % 3 :] + list(WAYS)[: number % 3]
                    for way in order:
                        found[way].append(_seconds(method, folder, WAYS[way]))
                for other in others:
                    other.kill()
                cells = " | ".join(f"{statistics.median(found[way]):.1f}" for way in WAYS)
                print(f"| `{method}` | {beside} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
