"""What `--topology repair` costs: folds, millimetres, Dice and seconds of weakly smoothed fields.

    python benchmarks/topology.py [--acdc PATH/TO/acdc] [--limit 2] [--smoothness 0.05] [--slices z]

Registers the generated hearts, and ACDC validation pairs where a folder is given, by `-m optimise`
with Adam on a displacement, ED moving and ES fixed. The repair of each field is compared with
Gaussian smoothing of the whole field, as weak as it may be without leaving a fold. Labels only
measure.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import regtool
from regtool.data.cases import PairCase
from regtool.data.readers import open_data
from regtool.imaging.reading import read_labels
from regtool.imaging.resample import resample
from regtool.metrics.dice import dice
from regtool.spatial.frames import linear_part
from regtool.spatial.repair import scan_displacement
from regtool.spatial.repair_field import repair_field
from regtool.spatial.smooth import gaussian


def smoothed(field, grid):
    """The field under the weakest Gaussian (steps of 10 %) that leaves no corner folded."""
    back = torch.linalg.inv(linear_part(grid))
    u = (back @ torch.from_numpy(field).double().flatten(0, -2).T).reshape(-1, *grid.shape)[None]
    sigma = 0.3
    while scan_displacement(gaussian(u, sigma)).count:
        sigma *= 1.1
    world = linear_part(grid) @ gaussian(u, sigma)[0].flatten(1)
    return world.T.reshape(field.shape).numpy().astype(np.float32), sigma


def row(pair: PairCase, given: argparse.Namespace) -> dict[str, Any]:
    """Register one pair and compare the field as it is, repaired, and smoothed as a whole."""
    fixed, moving = read_labels(pair.fixed.labels), read_labels(pair.moving.labels)
    result = regtool.register(
        pair.fixed.image, pair.moving.image, "optimise", threads=given.threads,
        settings={
            "formulation": "displacement", "smoothness": given.smoothness, "tolerance": 0.0
        },
        slices=given.slices if fixed.ndim == 3 else None,
    )  # fmt: skip
    grid = fixed.grid
    start = time.perf_counter(), time.process_time()
    mended, done = repair_field(result.field, grid)
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    other, sigma = smoothed(result.field, grid)

    def overlap(field):
        chain = [(field, grid), result.affine]
        scores = dice(fixed.array, resample(moving, grid, chain, "nearest"))
        return float(np.mean(list(scores.values())))

    def rms(field):
        return float(np.sqrt(((field.astype(np.float64) - result.field) ** 2).sum(-1).mean()))

    return {
        "pair": pair.name, "size": list(grid.size), **done.as_dict(),
        "percent_central": result.record["jacobian"]["percent"],
        "dice": overlap(result.field), "dice_repaired": overlap(mended),
        "dice_smoothed": overlap(other), "rms_mm_repaired": rms(mended),
        "rms_mm_smoothed": rms(other), "smoothing_sigma": sigma,
        "seconds": seconds[0], "processor_seconds": seconds[1],
    }  # fmt: skip


def pairs(given: argparse.Namespace) -> list[PairCase]:
    """One phantom of each heart, and the ACDC pairs asked for."""
    found = [open_data(f"phantom:{kind}?n=1")[0] for kind in ("heart2d", "heart3d")]
    if given.acdc:
        real = [p for p in open_data(f"acdc:{given.acdc}") if p.split == "val"]
        found += real[: given.limit]
    return found


def main() -> None:
    """Print a line for each pair; ``--json`` keeps every number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--acdc", type=Path)
    parser.add_argument("--limit", type=int, default=2)
    parser.add_argument("--slices", choices=("x", "y", "z"))
    parser.add_argument("--smoothness", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for pair in pairs(given):
        r = row(pair, given)
        rows.append(r)
        before, after = r["before"], r["after"]
        print(
            f"{r['pair']:24s} folds {before['central']} voxels ({r['percent_central']:.2f} %), "
            f"{before['corner']} corners -> {after['central']}, {after['corner']}  "
            f"changed {r['changed_percent']:.2f} % by {r['moved_mm_mean']:.3f} mm "
            f"(max {r['moved_mm_max']:.2f})  RMS {r['rms_mm_repaired']:.4f}, "
            f"smoothed {r['rms_mm_smoothed']:.4f} mm  Dice {r['dice']:.4f} -> "
            f"{r['dice_repaired']:.4f}, smoothed {r['dice_smoothed']:.4f}  "
            f"{r['seconds']:.1f} s, processor {r['processor_seconds']:.1f} s",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
