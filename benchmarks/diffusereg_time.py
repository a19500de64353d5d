"""How long DiffuseReg takes for a pair of the papers' size, through the installed program.

    python benchmarks/diffusereg_time.py PATH/TO/acdc diffusereg
    python benchmarks/diffusereg_time.py PATH/TO/acdc diffusereg@WEIGHTS --also steps=25 stop=none

A validation pair is brought to 128 x 128 x 32 voxels of 1.5 x 1.5 x 3.15 mm, written, and
registered by ``regtool register`` with the options of the weights, then with those of ``--also``.
Each run is a process of its own. "command": wall seconds from its start to its end; "method": its
own seconds by the record, looking at the images and sampling; "processor": user and system seconds
of the whole command, which other work on the machine lengthens less; MiB: its largest resident set.
Medians of ``--repeats`` runs. DiffuseReg's paper has 333 s on an A40.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from diffusereg_cases import Row, machine, pairs_of, parser, table, write

from regtool.data.cases import PairCase
from regtool.imaging.image_write import write_image
from regtool.imaging.reading import read_image
from regtool.prepare.pair import as_preparation, prepare_pair
from regtool_diffusereg.presets import DIFFUSEREG

FIGURES = ("command", "method", "processor", "mib", "steps")


def write_pair(pair: PairCase, folder: Path) -> tuple[Path, Path]:
    """The pair in the papers' box, as files: fixed and moving."""
    fixed, moving = (read_image(case.image) for case in (pair.fixed, pair.moving))
    prepared = prepare_pair(fixed, moving, as_preparation(DIFFUSEREG["paper"]))
    paths = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    samples = prepared.pair.fixed, prepared.pair.moving
    for path, sample in zip(paths, samples, strict=True):
        write_image(path, sample.image[0, 0].numpy(), prepared.grid)
    return paths


def run(images: Sequence[Path], words: Sequence[str], folder: Path) -> Row:
    """One registration; what it took."""
    program = Path(sys.executable).with_name("regtool")
    prefix = folder / "out_"
    command = [str(program), "register", *map(str, images), "-o", str(prefix), "-q", "--overwrite",
               *words]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    record = json.loads((folder / "out_regtool.json").read_text(encoding="utf-8"))
    return {
        "command": seconds,
        "method": record["seconds"]["network"],
        "processor": usage.ru_utime + usage.ru_stime,
        "mib": usage.ru_maxrss / 1024,
        "steps": record["sampling"]["samples"][0]["steps"],
        "planned": record["sampling"]["steps"],
        "parts": record["seconds"],
        "grid": record["network_grid"]["size"],
        "sha256": record["weights"]["sha256"],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Print the table; ``--json`` keeps every run."""
    arguments = parser(__doc__)
    arguments.set_defaults(limit=1)
    arguments.add_argument("--threads-of", type=int, nargs="+", default=[2, 1], metavar="N")
    arguments.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    arguments.add_argument("--also", nargs="+", action="append", default=[], metavar="NAME=VALUE",
                           help="options of a further line")  # fmt: skip
    arguments.add_argument("--repeats", type=int, default=3)
    given = arguments.parse_args()
    name, _, weights = given.method.partition("@")
    common = ["-m", name, *(["-w", weights] if weights else []), "--device", given.device,
              "--seed", str(given.seed)]  # fmt: skip
    for setting in given.set:
        common += ["--set", setting]
    lines, rows = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = write_pair(pairs_of(given)[0], folder)
        for more in ([], *given.also):
            for threads in given.threads_of:
                for precision in given.precisions:
                    words = [*common, "--threads", str(threads), "--precision", precision]
                    for setting in more:
                        words += ["--set", setting]
                    own = [run(images, words, folder) for _ in range(given.repeats)]
                    what = {"options": more, "threads": threads, "precision": precision}
                    rows += [{**what, **row} for row in own]
                    middle = {key: statistics.median(row[key] for row in own) for key in FIGURES}
                    lines.append([
                        " ".join(more) or "as shipped", threads, precision,
                        f"{middle['steps']:.0f} of {own[0]['planned']}",
                        f"{middle['command']:.1f}", f"{middle['method']:.1f}",
                        f"{middle['processor']:.1f}", f"{middle['mib']:.0f}",
                    ])  # fmt: skip
    head = ["options", "threads", "precision", "steps", "command, s", "method, s", "processor, s",
            "MiB"]  # fmt: skip
    print(table(head, lines))
    write(given.json, {"schema": 1, "method": given.method, **machine(), "runs": rows})


if __name__ == "__main__":
    main()
