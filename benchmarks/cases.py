"""Dice and folds of methods on the pairs of any reader: to train on one data set, test on another.

    python benchmarks/cases.py 'camus:PATH?view=2CH&split=paper' ldm-morph@runs/echo/weights/NAME

DATA is what ``regtool train --data`` takes. Labels only measure; they never reach a method. Dice is
of the warped moving labels (nearest neighbour) on the fixed image's own grid.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import regtool
from regtool.data.cases import Case, PairCase
from regtool.data.loading import load_image, load_labels
from regtool.data.readers import open_data


def measure(pair: PairCase, method: str, options: dict) -> dict:
    """Register one pair (end-diastole moves, as the readers have it); its row of the table."""
    name, _, slices = method.partition(":")
    name, _, weights = name.partition("@")
    (fixed, fixed_labels), (moving, moving_labels) = (_loaded(c) for c in (pair.fixed, pair.moving))
    record = regtool.register(
        fixed, moving, name, slices=slices or None, weights=weights or None,
        fixed_labels=fixed_labels, moving_labels=moving_labels, **options,
    ).record  # fmt: skip
    return {
        "pair": pair.name,
        "before": record["dice"]["before"]["labels"],
        "after": record["dice"]["after"]["labels"],
        "folds_percent": record["jacobian"]["percent"],
        "network_seconds": record["seconds"]["network"],
    }


def _loaded(case: Case):
    image = load_image(case)
    return image, load_labels(case, image)


def main() -> None:
    """Print a line for each method; ``--json`` keeps every pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("methods", nargs="+", help="NAME, NAME@WEIGHTS, with :z slice by slice")
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
    tables = {}
    for method in given.methods:
        rows = [measure(pair, method, options) for pair in pairs[: given.limit]]
        means = {
            when: [np.mean([d for k, d in r[when].items() if wanted is None or k in wanted])
                   for r in rows]
            for when in ("before", "after")
        }  # fmt: skip
        folds = np.mean([r["folds_percent"] for r in rows])
        print(
            f"{method:32s} n={len(rows):4d}  Dice {np.mean(means['before']):.3f} -> "
            f"{np.mean(means['after']):.3f} ({np.std(means['after']):.3f})  folds {folds:.3f} %  "
            f"network {np.mean([r['network_seconds'] for r in rows]):.2f} s",
            flush=True,
        )
        tables[method] = rows
    if given.json:
        given.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
