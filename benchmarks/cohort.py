"""A cohort of 2-D pairs: seconds a pair over the network's own, memory, and a kill half-way.

    python benchmarks/cohort.py --pairs 1000 -m voxelmorph

Pairs are generated hearts, eight different ones in turn, with labels. The cohort runs as the
command ``regtool register --pairs``; it is killed (SIGKILL) when half of the records are there,
and started again. Printed: wall seconds of a pair, from the first record to the end; the method's
own seconds for a pair when nothing else runs, with the same number of threads (those in the
records include waiting for reading and writing, so they are no measure); resident memory of the
process at a tenth and at its end; how often each pair was registered; and the seconds to plan a
table of ten thousand rows.
To see what NumPy's BLAS threads would cost, set OPENBLAS_NUM_THREADS to the number of cores.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from regtool.data.readers import open_data

COMPANIONS = ("fixed", "moving", "fixed_labels", "moving_labels")


def table(folder: Path, count: int) -> Path:
    """A table of ``count`` rows over eight generated pairs."""
    pairs = open_data("phantom:heart2d?n=8")
    lines = ["name," + ",".join(COMPANIONS)]
    for k in range(count):
        p = pairs[k % len(pairs)]
        files = (p.fixed.image, p.moving.image, p.fixed.labels, p.moving.labels)
        lines.append(f"p{k:05d}," + ",".join(map(str, files)))
    path = folder / f"pairs{count}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def resident(pid: int) -> float:
    """MiB of memory of a process, Linux only."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def records(folder: Path) -> dict[Path, float]:
    """Times at which records were written."""
    return {p: p.stat().st_mtime for p in folder.glob("*_regtool.json")}


def run(command: list[str], out: Path, count: int, kill_at: int | None) -> dict[str, float]:
    """Run until the end, or kill when so many records are there; memory on the way."""
    process = subprocess.Popen(command)
    memory: list[tuple[int, float]] = []
    first = None
    while process.poll() is None:
        time.sleep(0.1)
        there = len(records(out)) if out.exists() else 0
        if there and first is None:
            first = time.perf_counter()
        memory.append((there, resident(process.pid)))
        if kill_at is not None and there >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
    start = len(records(out)) if first is None else 0
    early = next((m for n, m in memory if n >= start + count // 10), 0.0)
    late = next((m for _, m in reversed(memory) if m > 0), 0.0)
    return {"since_first_record": time.perf_counter() - (first or 0), "early": early, "late": late}


def alone(method: str, threads: int) -> float:
    """Seconds of a method's own for a pair, nothing beside it: the median of thirty pairs."""
    code = (
        "import statistics, sys, time\n"
        "from regtool.data.readers import open_data\n"
        "from regtool.engine.device import limited_threads\n"
        "from regtool.engine.request import Request\n"
        "from regtool.engine.task import load, open_task, prepare\n"
        f"requests = [Request(p.fixed.image, p.moving.image, {method!r})"
        " for p in open_data('phantom:heart2d?n=8')]\n"
        f"with limited_threads({threads}):\n"
        "    registrar = load(requests[0], 2)\n"
        "    ready = [prepare(open_task(r), registrar) for r in requests]\n"
        "    taken = []\n"
        "    for k in range(40):\n"
        "        start = time.perf_counter()\n"
        "        registrar.predict(ready[k % 8])\n"
        "        taken.append(time.perf_counter() - start)\n"
        "print(statistics.median(taken[10:]))\n"
    )
    environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout)


def main() -> None:
    """Run the cohort twice and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--method", default="voxelmorph")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--threads", type=int, help="the program's default unless given")
    given = parser.parse_args()
    regtool = [sys.executable, "-m", "regtool.cli.app", "register", "-q", "-m", given.method]
    regtool += [] if given.threads is None else ["--threads", str(given.threads)]
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "out"
        command = [*regtool, "--pairs", str(table(folder, given.pairs)), "-o", str(out)]
        whole = run([*command], out, given.pairs, None)
        network = alone(given.method, given.threads or max(1, (os.cpu_count() or 2) - 1))
        each = whole["since_first_record"] / (given.pairs - 1)
        print(f"{given.pairs} pairs: {1e3 * each:.1f} ms a pair; the method alone "
              f"{1e3 * network:.1f} ms; over it {1e3 * (each - network):.1f} ms")  # fmt: skip
        print(f"memory: {whole['early']:.0f} MiB at a tenth, {whole['late']:.0f} MiB at the end")
        again = Path(name) / "again"
        command[-1] = str(again)
        run(command, again, given.pairs, given.pairs // 2)
        before = records(again)
        subprocess.run(command, check=True)
        after = records(again)
        twice = sum(after[p] != t for p, t in before.items())
        left = [p for p in again.iterdir() if p.name.startswith(".")]
        print(f"killed at {len(before)} of {given.pairs}: afterwards {len(after)} complete, "
              f"{twice} done twice, {len(left)} temporary folders left")  # fmt: skip
        rows = table(folder, 10_000)
        planning = (
            "import time; t = time.perf_counter();"
            "from regtool.engine.cohort.run import open_cohort;"
            "from regtool.engine.request import Request; import sys;"
            "t1 = time.perf_counter();"
            f"c = open_cohort({str(rows)!r}, {str(out)!r}, Request('', '', {given.method!r}));"
            "print(f'10000 rows planned in {time.perf_counter() - t1:.2f} s, "
            "{sum(i.complete for i in c.items)} complete')"
        )
        subprocess.run([sys.executable, "-c", planning], check=True)


if __name__ == "__main__":
    main()
