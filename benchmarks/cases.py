"""Dice, TRE and folds of methods on the pairs of any reader: trained on one, tested on another.

    python benchmarks/cases.py 'camus:PATH?view=2CH&split=paper' ldm-morph@runs/echo/weights/NAME
    python benchmarks/cases.py 'breathing:CT.nii.gz?n=10&family=general' optimise ad-regnet@WEIGHTS

DATA is what ``regtool train --data`` takes. Labels and landmarks only measure; they never reach a
method. Dice is of the warped moving labels (nearest neighbour) on the fixed image's own grid, TRE
the mean distance in mm of the mapped fixed landmarks from the moving ones. The first method is the
one that others are compared with, by paired Wilcoxon tests over pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import regtool
from regtool.data.cases import Case, PairCase
from regtool.data.loading import load_image, load_labels, load_points
from regtool.data.readers import open_data
from regtool.metrics.statistics import paired_test


def measure(pair: PairCase, method: str, options: dict) -> dict:
    """Register one pair (end-diastole moves, as the readers have it); its row of the table."""
    name, _, slices = method.partition(":")
    name, _, refine = name.partition("+")
    name, _, weights = name.partition("@")
    (fixed, fixed_labels), (moving, moving_labels) = (_loaded(c) for c in (pair.fixed, pair.moving))
    record = regtool.register(
        fixed, moving, name, slices=slices or None, weights=weights or None,
        fixed_labels=fixed_labels, moving_labels=moving_labels,
        fixed_points=load_points(pair.fixed, fixed), moving_points=load_points(pair.moving, moving),
        refine=int(refine) if refine else None, **options,
    ).record  # fmt: skip
    overlap, error, seconds = record["dice"], record["tre_mm"], record["seconds"]
    return {
        "pair": pair.name,
        **{when: overlap[when]["labels"] if overlap else {} for when in ("before", "after")},
        "tre": {w: error[w]["mean"] for w in ("before", "after")} if error else None,
        "folds_percent": record["jacobian"]["percent"],
        "network_seconds": seconds["network"] + seconds.get("refine", 0.0),
    }


def compared(rows: list[dict], first: list[dict], wanted: set[str] | None) -> str:
    """What a method's rows are worth beside those of the first method."""

    def scores(of: list[dict]) -> list[float]:
        if all(r["tre"] for r in of):
            return [r["tre"]["after"] for r in of]
        return [float(np.mean(_chosen(r["after"], wanted))) for r in of]

    test = paired_test(scores(first), scores(rows))
    p = "-" if test.p is None else f"{test.p:.3f}"
    return f"to the first {test.mean_difference:+.3f} (p {p})"


def _chosen(scores: dict[str, float], wanted: set[str] | None) -> list[float]:
    return [d for label, d in scores.items() if wanted is None or label in wanted]


def _loaded(case: Case):
    image = load_image(case)
    return image, load_labels(case, image)


def main() -> None:
    """Print a line for each method; ``--json`` keeps every pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument(
        "methods", nargs="+", help="NAME[@WEIGHTS][+STEPS][:z]: refined, slice by slice"
    )
    parser.add_argument("--split", default="test", help="train, val, test or all")
    parser.add_argument("--labels", type=int, nargs="+", help="labels that count (all)")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = [p for p in open_data(given.data) if given.split in (p.split, "all")]
    if not pairs:
        sys.exit(f"{given.data}: no pairs in the split {given.split!r}")
    options = {"threads": given.threads, "settings": given.set}
    wanted = None if given.labels is None else {str(label) for label in given.labels}
    tables: dict[str, list[dict]] = {}
    for method in given.methods:
        rows = tables[method] = [measure(p, method, options) for p in pairs[: given.limit]]
        line = f"{method:32s} n={len(rows):4d}"
        means = {
            w: [np.mean(found) for r in rows if (found := _chosen(r[w], wanted))]
            for w in ("before", "after")
        }
        if means["after"]:
            before, after = means["before"], means["after"]
            line += f"  Dice {np.mean(before):.3f} -> {np.mean(after):.3f} ({np.std(after):.3f})"
        if errors := [r["tre"] for r in rows if r["tre"]]:
            before, after = ([e[w] for e in errors] for w in ("before", "after"))
            line += f"  TRE {np.mean(before):.2f} -> {np.mean(after):.2f} ({np.std(after):.2f}) mm"
        folds = np.mean([r["folds_percent"] for r in rows])
        seconds = np.mean([r["network_seconds"] for r in rows])
        line += f"  folds {folds:.3f} %  method {seconds:.2f} s"
        if len(tables) > 1:
            line += "  " + compared(rows, next(iter(tables.values())), wanted)
        print(line, flush=True)
    if given.json:
        given.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
