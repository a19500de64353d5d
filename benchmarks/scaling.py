"""Time and memory of a method over the size of the images, through the installed command.

    python benchmarks/scaling.py [-m optimise] [--threads 2] [--set NAME=VALUE] [--json FILE]

Generates pairs of 64, 96 and 128 voxels along each axis and of 160 x 192 x 160 (texture without an
empty border, warped by up to 4 voxels), and registers each in a process of its own. Memory is the
peak of the resident set of that process, with the interpreter and PyTorch (the line of 8 voxels).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import warp

SIZES = ((8, 8, 8), (64, 64, 64), (96, 96, 96), (128, 128, 128), (160, 192, 160))


def pair(folder: Path, shape: tuple[int, ...]) -> list[str]:
    """Write a moving image and the same as warped."""
    draw = torch.Generator().manual_seed(0)
    moving = gaussian(torch.randn(1, 1, *shape, generator=draw), 2.0)
    u = gaussian(torch.randn(1, 3, *shape, generator=draw), [min(8.0, n / 4) for n in shape])
    fixed = warp(moving, u * (4 / u.abs().max()))
    paths = []
    for name, image in (("fixed", fixed), ("moving", moving)):
        path = folder / f"{name}.nii"
        nib.Nifti1Image(np.asarray(image[0, 0].permute(2, 1, 0)), np.eye(4)).to_filename(path)
        paths.append(str(path))
    return paths


def run(shape: tuple[int, ...], given: argparse.Namespace) -> dict:
    """Register one pair; seconds and MiB."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = [
            sys.executable, "-m", "regtool.cli.app", "register", "-q", "-m", given.method,
            "--threads", str(given.threads), "-o", str(folder / "out_"), *pair(folder, shape),
        ]  # fmt: skip
        for assignment in given.set:
            command += ["--set", assignment]
        start = time.perf_counter()
        child = subprocess.Popen(command)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"{' '.join(command)} ended with {child.returncode}")
        record = json.loads((folder / "out_regtool.json").read_text("utf-8"))
    return {
        "shape": shape, "voxels": int(np.prod(shape)), "seconds": seconds,
        "method_seconds": record["seconds"]["network"], "peak_mib": usage.ru_maxrss / 1024,
        "local_ncc": record["similarity"]["local_ncc"]["after"],
    }  # fmt: skip


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--method", default="optimise")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    columns = "size", "command, s", "method, s", "s per million voxels", "peak, MiB", "local NCC"
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for shape in SIZES:
        r = run(shape, given)
        rows.append(r)
        print(
            f"| {' x '.join(map(str, shape))} | {r['seconds']:.1f} | {r['method_seconds']:.2f} "
            f"| {1e6 * r['method_seconds'] / r['voxels']:.2f} | {r['peak_mib']:.0f} "
            f"| {r['local_ncc']:.3f} |",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
