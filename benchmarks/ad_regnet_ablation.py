"""AD-RegNet's ablation on synthetic breathing: what each of the paper's three parts is worth.

    python benchmarks/ad_regnet_ablation.py OUT --test 'breathing:phantom?n=8&family=general&seed=9'

Trains one run a row, all for the same steps from the same seed, on pairs of two families of
breathing, and measures the TRE of 300 landmarks on ``--test``, once, with the weights that were
best on the validation pairs. A run that is finished in OUT is not trained again, one that was
stopped goes on. Prints a Markdown table with the paper's figures (DIR-Lab, another task) and p of a
paired Wilcoxon test of each row's TRE against that of "full".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import measure

from regtool.data.readers import open_data
from regtool.metrics.statistics import paired_test


@dataclass(frozen=True)
class Row:
    """What is set for a row, and the paper's TRE in mm and folds in %."""

    options: tuple[str, ...]
    tre: float | None = None
    folds: float | None = None


ROWS = {
    "full": Row((), 1.51, 0.15),
    "no cross-attention": Row(("network.attention=false",), 1.61, 0.18),
    "no regional attention": Row(("network.regional=false",), 1.65, 0.16),
    "no multi-resolution": Row(("network.multiresolution=false",), 1.63, 0.22),
    "neither attention": Row(("network.attention=false", "network.regional=false"), 1.79, 0.25),
    "no matching (not the paper's)": Row(("network.correlate=0",)),
}
TRAIN = "breathing:phantom?n=40&seed=0&spacing=5&mark=train"
VAL = "breathing:phantom?n=6&seed=1000&spacing=5&mark=val"


def train(given: argparse.Namespace, name: str) -> Path:
    """One run of the installed command; the folder of its weights."""
    folder = given.out / "".join(c if c.isalnum() else "-" for c in name)
    done = list(folder.glob("weights/*/config.json"))
    if done and json.loads(done[0].read_text())["training"]["steps_done"] >= given.steps:
        return done[0].parent
    program = [sys.executable, "-m", "regtool.cli.app", "train", "-q"]
    if (folder / "settings.json").exists():
        command = [*program, "--resume", "-o", str(folder), "--threads", str(given.threads)]
    else:
        command = [
            *program, "-m", "ad-regnet", "--preset", given.preset, "-o", str(folder),
            "--data", TRAIN, "--val", VAL, "--threads", str(given.threads),
            "--precision", given.precision, "--set", f"steps={given.steps}",
            "--set", f"val_every={max(1, given.steps // 3)}",
        ]  # fmt: skip
        for option in (*given.set, *ROWS[name].options):
            command += ["--set", option]
    subprocess.run(command, check=True)
    (config,) = folder.glob("weights/*/config.json")
    return config.parent


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--test", required=True, help="pairs with landmarks, as --data of train")
    parser.add_argument("--preset", default="trial")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    weights = {name: train(given, name) for name in given.rows}
    pairs = open_data(given.test)
    print(f"{given.steps} steps a row, preset {given.preset}, {len(pairs)} test pairs\n")
    print("| row | TRE before | TRE, mm | folds % | paper's TRE | paper's folds % | p |")
    print("|" + "---|" * 7)
    reference: list[float] | None = None
    for name, folder in weights.items():
        rows = [measure(p, f"ad-regnet@{folder}", {"threads": given.threads}) for p in pairs]
        before, after = ([r["tre"][w] for r in rows] for w in ("before", "after"))
        test = None if reference is None else paired_test(reference, after)
        if name == "full":
            reference = after
        p = "" if test is None or test.p is None else f"{test.p:.3f}"
        folds = np.mean([r["folds_percent"] for r in rows])
        paper = " | ".join("" if x is None else f"{x}" for x in (ROWS[name].tre, ROWS[name].folds))
        print(
            f"| {name} | {np.mean(before):.2f} | {np.mean(after):.2f} ({np.std(after):.2f}) "
            f"| {folds:.3f} | {paper} | {p} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
