"""Many tiny pairs, and a method that costs nothing, tells its memory and can kill its process."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 16
NAMES = ("Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat", "regtool.json")

PLUGIN = """
from regtool.api import Method, hookimpl, native_preset

@hookimpl
def regtool_method():
    return Method(
        name="still", summary="Moves nothing.", paper=None, licence="Apache-2.0", ndim=(2,),
        model="regtool_still.network:build", options="regtool_still.network:NoOptions",
        task="load test", presets={"2d": native_preset(2)},
    )
"""

NETWORK = """
import os, signal
import torch
from regtool.api import Options, Prediction

class NoOptions(Options):
    pass

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

class Still(torch.nn.Module):
    calls = 0

    def forward(self, pair, options, context):
        self.calls += 1
        if self.calls % int(os.environ["STILL_EVERY"]) == 0:
            with open(os.environ["STILL_LOG"], "a") as log:
                log.write(f"{os.getpid()} {self.calls} {resident()}\\n")
        if self.calls == int(os.environ.get("STILL_KILL", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        b, _, *size = pair.fixed.image.shape
        return Prediction(displacement=pair.fixed.image.new_zeros(b, len(size), *size))

def build(config):
    return Still()
"""


def install(site: Path) -> None:
    """Put the method and its metadata into a folder for PYTHONPATH."""
    package, info = site / "regtool_still", site / "regtool_still-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(PLUGIN)
    (package / "network.py").write_text(NETWORK)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: regtool-still\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[regtool.methods]\nstill = regtool_still.plugin\n")


def pixels(number: int) -> NDArray[np.float32]:
    """The moving image of a pair: a spot whose place and height are the pair's own, (y, x)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    middle = 4 + number % 8, 4 + number // 8 % 8
    spot = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / 8)
    return (number + 100 * spot).astype(np.float32)


def write_image(path: Path, values: NDArray[np.float32]) -> None:
    """A 2-D NIfTI-1 file of 1 mm pixels, (y, x): 348 bytes of header, as its standard says."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 2, values.shape[1], values.shape[0], 1, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 16, 32)  # float32
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    struct.pack_into("<B", header, 123, 2)  # mm
    struct.pack_into("<2h", header, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<f", header, 280 + 20 * row, 1.0)
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header) + values.astype("<f4").tobytes())


def make_table(folder: Path, count: int) -> Path:
    """A table of ``count`` pairs, each of two files of its own."""
    folder.mkdir()
    lines = ["name,fixed,moving"]
    for k in range(count):
        moving = pixels(k)
        write_image(folder / f"m{k}.nii", moving)
        write_image(folder / f"f{k}.nii", moving + np.float32(0.5))
        lines.append(f"p{k:05d},f{k}.nii,m{k}.nii")
    table = folder / "pairs.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@dataclass(frozen=True)
class Ended:
    """How a command ended: code, streams, seconds; ``memory`` in bytes by calls of the method."""

    code: int
    out: str
    err: str
    seconds: float
    memory: dict[int, int]


@dataclass(frozen=True)
class Place:
    """A folder with the method installed, a table in it, and room for outputs."""

    folder: Path
    table: Path

    @classmethod
    def make(cls, folder: Path, count: int) -> Place:
        """Install the method and write the pairs."""
        install(folder / "site")
        return cls(folder, make_table(folder / "in", count))

    @property
    def out(self) -> Path:
        """Where the files of all pairs go."""
        return self.folder / "out"

    def register(self, *more: str, every: int = 100, kill: int = 0) -> Ended:
        """The command for the whole table; killed at the ``kill``-th pair, if that is given."""
        args = ["register", "-m", "still", "--pairs", str(self.table), "-o", str(self.out), *more]
        return self.run(args, every, kill)

    def run(self, args: list[str], every: int = 100, kill: int = 0) -> Ended:
        """A command of the program in a process of its own, with one thread."""
        log = self.folder / "memory.txt"
        log.unlink(missing_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("REGTOOL_", "HF_"))}
        path = os.pathsep.join([str(self.folder / "site"), kept.get("PYTHONPATH", "")])
        own = {
            "PYTHONPATH": path.rstrip(os.pathsep),
            "REGTOOL_LOAD_PLUGINS": "still",
            "OMP_NUM_THREADS": "1",
            "REGTOOL_THREADS": "1",
            "STILL_LOG": str(log),
            "STILL_EVERY": str(every),
            "STILL_KILL": str(kill),
        }
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "regtool.cli.app", *args], env=kept | own, cwd=self.folder,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        lines = log.read_text().splitlines() if log.exists() else []
        memory = {int(calls): int(size) for _, calls, size in map(str.split, lines)}
        return Ended(done.returncode, done.stdout, done.stderr, seconds, memory)

    def complete(self) -> dict[str, tuple[int, int]]:
        """Pairs with a record, with what would tell that it was written again."""
        found = {}
        with os.scandir(self.out) as entries:
            for entry in entries:
                if entry.name.endswith("_regtool.json"):
                    status = entry.stat()
                    name = entry.name.removesuffix("_regtool.json")
                    found[name] = status.st_ino, status.st_mtime_ns
        return found

    def summary(self) -> dict:
        """What cohort.json holds."""
        found: dict = json.loads((self.out / "cohort.json").read_text())
        return found
