"""Dice and folds of methods on ACDC pairs, ED moving and ES fixed, through `regtool.register`.

    python benchmarks/acdc.py PATH/TO/acdc --split val voxelmorph voxelmorph:z optimise

A method with ``:z`` registers slice by slice, one with ``+N`` is refined by N steps (as with
``--refine N``), ``NAME:z+N`` both. Labels only measure; they never reach a method. The files are
used as they are, uncropped. Dice is of the warped moving labels (nearest neighbour) on the fixed
image's own grid: RV cavity (1), myocardium (2), LV cavity (3), their mean, and the mean of the five
regions that DiffuseMorph, FSDiffReg and DiffuseReg report (LV cavity, myocardium, the two together,
RV cavity, whole heart). "slices" is the mean Dice of LV cavity and myocardium on every slice where
both images show both, over all such slices of all patients; "middle" takes the middle one of these
slices of each patient (LDM-Morph's test has one a patient). Every method after the first is
compared with the first: difference of the mean Dice, and p of Wilcoxon's paired test over patients.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np

import regtool
from regtool.data.readers import open_data
from regtool.imaging.reading import read_labels
from regtool.metrics.dice import dice, dice_groups
from regtool.metrics.statistics import paired_test

REGIONS = {"LV": (3,), "Myo": (2,), "LV+Myo": (2, 3), "RV": (1,), "heart": (1, 2, 3)}


def slice_scores(fixed, warped, moving) -> list[float]:
    """Mean Dice of LV and myocardium of each slice on which both images have both labels.

    Arrays (Z, Y, X) on the fixed image's grid.
    """
    ventricle = (2, 3)
    scores = []
    for a, b, m in zip(fixed, warped, moving, strict=True):
        if all(np.isin(ventricle, x).all() for x in (a, m)):
            scores.append(float(np.mean(list(dice(a, b, ventricle).values()))))
    return scores


def measure(pair, method: str, options: dict) -> dict:
    """Register one pair and return its row of the table."""
    name, _, refine = method.partition("+")
    name, _, slices = name.partition(":")
    name, _, weights = name.partition("@")
    start = time.perf_counter()
    result = regtool.register(
        pair.fixed.image, pair.moving.image, name, slices=slices or None,
        weights=weights or None, refine=int(refine) if refine else None,
        moving_labels=pair.moving.labels, fixed_labels=pair.fixed.labels, **options,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    record = result.record
    fixed = read_labels(pair.fixed.labels).array
    moving = read_labels(pair.moving.labels).array  # ACDC: both frames share one grid
    five = dice_groups(fixed, result.warped_labels, REGIONS)
    row = {"pair": pair.name, "method": method}
    row["before_slices"] = slice_scores(fixed, moving, moving)
    row["after_slices"] = slice_scores(fixed, result.warped_labels, moving)
    for when in ("before", "after"):
        scores = row[f"{when}_slices"]
        row[f"{when}_middle"] = scores[len(scores) // 2]
    for when in ("before", "after"):
        labels = record["dice"][when]["labels"]
        row |= {f"{when}_{k}": labels.get(str(v)) for k, v in (("RV", 1), ("Myo", 2), ("LV", 3))}
        row[f"{when}_mean"] = record["dice"][when]["mean"]
    row["after_five"] = float(np.mean(list(five.values())))
    row["folds_percent"] = record["jacobian"]["percent"]
    row["sd_log_j"] = record["jacobian"]["sd_log"]
    row["network_seconds"] = record["seconds"]["network"]
    row["seconds"] = seconds
    return row


def summary(rows: list[dict]) -> dict:
    """Means over pairs, and the SD of the mean Dice."""
    lists = [k for k, v in rows[0].items() if isinstance(v, list)]
    keys = [k for k in rows[0] if k not in ("pair", "method", *lists)]
    means = {k: float(np.mean([r[k] for r in rows if r[k] is not None])) for k in keys}
    means |= {k: float(np.mean([x for r in rows for x in r[k]])) for k in lists}
    means["slices"] = sum(len(r["after_slices"]) for r in rows)
    means["after_mean_sd"] = float(np.std([r["after_mean"] for r in rows], ddof=1))
    return {"method": rows[0]["method"], "pairs": len(rows), **means}


def main() -> None:
    """Run the table and print it; ``--json`` and ``--csv`` keep every number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("methods", nargs="+", help="NAME[@WEIGHTS][:z][+N]")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = [p for p in open_data(f"acdc:{given.folder}") if p.split == given.split]
    options = {"threads": given.threads, "settings": given.set}
    rows, table = [], []
    first: list[float] = []
    for method in given.methods:
        own = [measure(pair, method, options) for pair in pairs[: given.limit]]
        rows += own
        s = summary(own)
        table.append(s)
        scores = [row["after_mean"] for row in own]
        first = first or scores
        test = None if first is scores else paired_test(scores, first)
        if test is not None:
            p = 1.0 if test.p is None else test.p  # None: no pair differs
            s |= {"to_first": s["after_mean"] - table[0]["after_mean"], "p": p}
        print(
            f"{method:32s} n={s['pairs']:3d}  Dice {s['before_mean']:.3f} -> "
            f"{s['after_mean']:.3f} ({s['after_mean_sd']:.3f})  RV {s['after_RV']:.3f} "
            f"Myo {s['after_Myo']:.3f} LV {s['after_LV']:.3f}  five {s['after_five']:.3f}  "
            f"slices {s['before_slices']:.3f} -> {s['after_slices']:.3f} (n={s['slices']})  "
            f"middle {s['before_middle']:.3f} -> {s['after_middle']:.3f}  "
            f"folds {s['folds_percent']:.3f} %  SD log J {s['sd_log_j']:.3f}  "
            f"network {s['network_seconds']:.2f} s  all {s['seconds']:.2f} s"
            + (f"  to the first {s['to_first']:+.4f} (p {s['p']:.3f})" if test else ""),
            flush=True,
        )
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if given.json:
        given.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
