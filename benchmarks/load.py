"""Load: ten thousand tiny pairs in one cohort, killed and started again; their page and table.

    python benchmarks/load.py --pairs 10000 --kill 2000

Each pair is two files of 16 x 16 pixels of its own, registered by a method that moves nothing
(tests/load/load_cases.py), so all that is measured is regtool's own. The method kills its process
(SIGKILL) at the given pair, and the same command is started again. Printed: seconds and CPU seconds
for a pair, resident memory on the way, pairs that were done twice, what was left over, the seconds
to find a complete table complete, and those for its page (``--report``) and its measurements
(``regtool evaluate``), with their sizes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "load"))

from load_cases import Ended, Place


def cpu() -> float:
    """CPU seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(what: str, run: Ended, before: float, count: int) -> None:
    """A line for a command that is to succeed."""
    if run.code != 0:
        sys.exit(f"{what}: exit {run.code}\n{run.err}")
    used = cpu() - before
    print(
        f"{what}: {run.seconds:.0f} s, {used:.0f} s of CPU, {1e3 * used / max(1, count):.1f} ms "
        f"a pair with the start of the program",
        flush=True,
    )


def main() -> None:
    """Run everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--kill", type=int, default=2_000, help="the pair at which to be killed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Place.make(Path(name), given.pairs)
        step = max(1, given.pairs // 10)
        killed = place.register(every=step, kill=given.kill)
        there = place.complete()
        print(f"killed ({killed.code}) at the {given.kill}th: {len(there)} complete", flush=True)
        before = cpu()
        rest = place.register(every=step)
        told("the rest", rest, before, given.pairs - len(there))
        memory = ", ".join(f"{size >> 20} at {calls}" for calls, size in rest.memory.items())
        print(f"resident memory, MiB: {memory}")
        after = place.complete()
        twice = sum(after[pair] != when for pair, when in there.items())
        left = [p for p in place.out.iterdir() if p.name.startswith(".")]
        said = {k: v if k != "failed" else len(v) for k, v in place.summary().items()}
        print(f"{len(after)} complete, {twice} done twice, {len(left)} temporary folders left")
        print(f"cohort.json: {said}", flush=True)
        for what, args in (
            ("nothing to do", ()),
            ("nothing to do, and a page", ("--report", str(place.folder / "all.html"))),
        ):
            before = cpu()
            told(what, place.register(*args), before, given.pairs)
        before = cpu()
        table = place.folder / "table.csv"
        told("evaluate", place.run(["evaluate", str(place.out), "--csv", str(table)]), before,
             given.pairs)  # fmt: skip
        rows = len(table.read_text().splitlines()) - 1
        page = (place.folder / "all.html").stat().st_size
        print(f"page: {page / 2**20:.1f} MiB; table: {rows} rows, "
              f"{table.stat().st_size / 2**20:.1f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
