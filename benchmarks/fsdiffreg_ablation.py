"""FSDiffReg's ablation of both guidances and its study of gamma, on ACDC.

    python benchmarks/fsdiffreg_ablation.py PATH/TO/acdc OUT --preset trial --steps 2000 --jobs 2

Trains one run a row, all for the same steps from the same seed, and registers the validation
patients, ED to ES, with the weights that were best there (2-D presets slice by slice). A run that
is finished in OUT is not trained again, one that was stopped goes on. Prints a Markdown table: Dice
of the three structures and of the paper's five regions, folded voxels, the paper's figures (in
3-D, on other patients), and p of a paired Wilcoxon test of each row's five-region Dice against that
of "both".

Two rows are not in the paper. Weights of score guidance have a mean of about a half at gamma 1, so
taking it away doubles the similarity beside the smoothness, and gamma changes it too: the control
without score guidance halves the similarity instead. "score detached" does not let the network
lower its loss by raising the score.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from acdc import measure, summary

from regtool.data.readers import open_data
from regtool.metrics.statistics import paired_test
from regtool_fsdiffreg.presets import FSDIFFREG


@dataclass(frozen=True)
class Row:
    """What is set for a row, and the paper's five-region Dice and folds (%) where it has it."""

    options: tuple[str, ...] = ()
    dice: float | None = None
    folds: float | None = None


ROWS = {
    "both": Row((), 0.823, 0.054),
    "neither": Row(("network.fdg=false", "sdg=false"), 0.811, 0.114),
    "FDG": Row(("sdg=false",), 0.818, 0.062),
    "SDG": Row(("network.fdg=false",), 0.810, 0.045),
    "both, gamma 0.5": Row(("gamma=0.5",), 0.817, 0.069),
    "both, gamma 2": Row(("gamma=2",), 0.816, 0.042),
    "control: FDG, similarity halved": Row(("sdg=false", "lambda_similarity={half}")),
    "both, score detached": Row(("detach_score=true",)),
}


def train(given: argparse.Namespace, name: str, row: Row) -> Path:
    """One run of the installed command; the folder of its weights."""
    folder = given.out / "".join(c if c.isalnum() else "-" for c in name)
    done = list(folder.glob("weights/*/config.json"))
    if done and json.loads(done[0].read_text())["training"]["steps_done"] >= given.steps:
        return done[0].parent
    program = [sys.executable, "-m", "regtool.cli.app", "train", "-q"]
    if (folder / "settings.json").exists():
        command = [*program, "--resume", "-o", str(folder), "--threads", str(given.threads)]
    else:
        half = FSDIFFREG[given.preset]["training"]["lambda_similarity"] / 2
        command = [
            *program, "-m", "fsdiffreg", "--preset", given.preset, "-o", str(folder),
            "--data", f"acdc:{given.folder}", "--threads", str(given.threads),
            "--precision", given.precision, "--device", given.device,
            "--set", f"steps={given.steps}",
        ]  # fmt: skip
        for option in (*given.set, *row.options):
            command += ["--set", option.format(half=f"{half:g}")]
    subprocess.run(command, check=True)
    (config,) = folder.glob("weights/*/config.json")
    return config.parent


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="trial")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1, help="rows trained side by side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    slices = ":z" if FSDIFFREG[given.preset]["ndim"] == 2 else ""
    with ThreadPoolExecutor(given.jobs) as pool:
        weights = list(pool.map(lambda name: train(given, name, ROWS[name]), given.rows))
    pairs = [p for p in open_data(f"acdc:{given.folder}") if p.split == "val"]
    print(f"{given.steps} steps a row, preset {given.preset}, {len(pairs)} patients\n")
    print(
        "| row | RV | Myo | LV | mean | five regions | folds % | paper | paper folds % | p |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    reference: list[float] | None = None
    for name, folder in zip(given.rows, weights, strict=True):
        method = f"fsdiffreg@{folder}{slices}"
        cases = [measure(p, method, {"threads": given.threads}) for p in pairs]
        found, own = summary(cases), [case["after_five"] for case in cases]
        test = None if reference is None else paired_test(own, reference)
        if name == "both":
            reference = own
        dice = " | ".join(f"{found[f'after_{k}']:.3f}" for k in ("RV", "Myo", "LV", "mean", "five"))
        row = ROWS[name]
        paper = " | ".join("" if x is None else f"{x:.3f}" for x in (row.dice, row.folds))
        p = "" if test is None or test.p is None else f"{test.p:.3f}"
        print(f"| {name} | {dice} | {found['folds_percent']:.3f} | {paper} | {p} |", flush=True)


if __name__ == "__main__":
    main()
