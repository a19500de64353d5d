"""LDM-Morph's ablation (its Table 3) and its sweep over beta (its Fig. 7), on ACDC.

    python benchmarks/ldm_ablation.py PATH/TO/acdc OUT --preset trial --steps 2000 --jobs 2

Trains autoencoder and diffusion model once, then the registration network of every row on top of
them, all rows for the same steps from the same seed, and registers the validation patients slice by
slice with the weights that were best there. A row that is finished in OUT is not trained again.
Prints a Markdown table: Dice of left ventricle and myocardium on all slices that show both, and on
the middle one of each patient, and the percentage of folded voxels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from acdc import measure, summary

from regtool.data.readers import open_data
from regtool_ldm_morph.presets import LDM_MORPH

ROWS = {
    "lower stream only": ("network.features=false", "beta=1.0"),
    "+ LDM features": ("network.cross_attention=false", "beta=1.0"),
    "+ LGCA (beta 1.0)": ("beta=1.0",),
    "+ latent loss (beta 0.6)": (),
    "no gradient through the latent term, as released": ("latent_grad=false",),
    "control: no latent term, smoothness / 0.6": ("beta=1.0", "smoothness={control}"),
    "beta 0.2": ("beta=0.2",),
    "beta 0.4": ("beta=0.4",),
    "beta 0.8": ("beta=0.8",),
}


def train(given: argparse.Namespace, folder: Path, options: tuple[str, ...], stage: str) -> Path:
    """One run of the installed command; the folder of its weights."""
    done = list(folder.glob("weights/*/config.json"))
    if done and json.loads(done[0].read_text())["training"]["steps_done"] >= given.steps:
        return done[0].parent
    if stage != "registration" and (folder / "stages" / f"{stage}.safetensors").exists():
        return folder
    program = [sys.executable, "-m", "regtool.cli.app", "train", "-q", "--stage", stage]
    if (folder / "settings.json").exists():
        command = [*program, "--resume", "-o", str(folder)]
    else:
        command = [
            *program, "-m", "ldm-morph", "--preset", given.preset, "-o", str(folder),
            "--data", f"acdc:{given.folder}", "--threads", "1", "--precision", given.precision,
            "--device", "cpu",
        ]  # fmt: skip
        for option in (*options, *given.set):
            command += ["--set", option]
        if stage == "registration":
            command += ["--steps", str(given.steps)]
    subprocess.run(command, check=True)
    return next(folder.glob("weights/*/config.json"), folder / "none").parent


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="trial")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1, help="rows trained side by side")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    first = given.out / "first_stages"
    for stage in ("autoencoder", "diffusion"):
        train(given, first, (), stage)
    control = f"{LDM_MORPH[given.preset]['training']['smoothness'] / 0.6:.4g}"

    def row(name: str) -> Path:
        options = tuple(option.format(control=control) for option in ROWS[name])
        shared = () if "network.features=false" in options else (f"earlier_run={first}",)
        folder = given.out / "".join(c if c.isalnum() else "-" for c in name)
        return train(given, folder, (*options, *shared), "registration")

    with ThreadPoolExecutor(given.jobs) as pool:
        weights = dict(zip(ROWS, pool.map(row, ROWS), strict=True))
    pairs = [p for p in open_data(f"acdc:{given.folder}") if p.split == "val"]
    print("| row | slices | middle | folds % |\n|---|---|---|---|")
    for name, folder in weights.items():
        method = f"ldm-morph@{folder}:z"
        found = summary([measure(pair, method, {"threads": 1}) for pair in pairs])
        print(
            f"| {name} | {found['after_slices']:.3f} | {found['after_middle']:.3f} "
            f"| {found['folds_percent']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
