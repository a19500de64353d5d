"""DiffuseMorph's lambda study: the same training with several weights of the registration terms.

    python benchmarks/diffusemorph_lambda.py PATH/TO/acdc OUT --preset acdc-2d --steps 1500

Trains one run for every lambda, all for the same steps from the same seed, and registers the
validation patients with the weights that were best there. A run that is finished in OUT is not
trained again. Prints a Markdown table of Dice and folded voxels. The paper's own study (OASIS-3)
has Dice 0.736, 0.746 and 0.756 for 2, 5 and 10.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from acdc import measure, summary

from regtool.data.readers import open_data
from regtool_diffusemorph.presets import DIFFUSEMORPH


def train(given: argparse.Namespace, weight: float) -> Path:
    """One run of the installed command; the folder of its weights."""
    folder = given.out / f"lambda-{weight:g}"
    done = list(folder.glob("weights/*/config.json"))
    if done and json.loads(done[0].read_text())["training"]["steps_done"] >= given.steps:
        return done[0].parent
    program = [sys.executable, "-m", "regtool.cli.app", "train", "-q"]
    if (folder / "settings.json").exists():
        command = [*program, "--resume", "-o", str(folder), "--threads", str(given.threads)]
    else:
        command = [
            *program, "-m", "diffusemorph", "--preset", given.preset, "-o", str(folder),
            "--data", f"acdc:{given.folder}", "--threads", str(given.threads),
            "--precision", given.precision, "--set", f"lambda={weight}",
            "--set", f"steps={given.steps}",
        ]  # fmt: skip
        for option in given.set:
            command += ["--set", option]
    subprocess.run(command, check=True)
    (config,) = folder.glob("weights/*/config.json")
    return config.parent


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="acdc-2d")
    parser.add_argument(
        "--lambdas", type=float, nargs="+", help="default: the preset's / 10 to x 3"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    preset = DIFFUSEMORPH[given.preset]
    own = float(preset["training"]["lambda"])
    slices = ":z" if preset["ndim"] == 2 else ""
    pairs = [p for p in open_data(f"acdc:{given.folder}") if p.split == "val"]
    print(
        "| lambda | RV | Myo | LV | mean | five regions | folds % |\n|---|---|---|---|---|---|---|"
    )
    for weight in given.lambdas or [own / 10, own / 3, own, own * 3]:
        method = f"diffusemorph@{train(given, weight)}{slices}"
        found = summary([measure(p, method, {"threads": given.threads}) for p in pairs])
        dice = " | ".join(f"{found[f'after_{k}']:.3f}" for k in ("RV", "Myo", "LV", "mean", "five"))
        print(f"| {weight:g} | {dice} | {found['folds_percent']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
