"""Put a finished training run's weights under weights/, with a card that says what was measured.

    python benchmarks/ship.py runs/vm3d --measured val.json

Copies `runs/vm3d/weights/NAME` to `weights/NAME`, adds the table of `benchmarks/acdc.py --json` and
the paper's figures to the card, and writes the sha256 into the plugin's description. The card is
written anew each time: what should stand below the table besides is `--remark TEXT` (or a file's,
`--remark @FILE`).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from regtool.plugins import discovery
from regtool.weights import file_sha256
from regtool.weights.publish import write_pin

ROOT = Path(__file__).resolve().parents[1]

NAMES = {
    "diffusemorph-acdc-2d": "diffusemorph:z",
    "diffusemorph-acdc-3d": "diffusemorph",
    "fsdiffreg-acdc-3d": "fsdiffreg",
    "vtn-acdc-3d": "vtn",
    "diffusereg-acdc-3d": "diffusereg",
    "voxelmorph-acdc-2d": "voxelmorph:z",
    "voxelmorph-acdc-3d": "voxelmorph",
    "voxelmorph-diff-acdc-2d": "voxelmorph-diff:z",
    "voxelmorph-diff-acdc-3d": "voxelmorph-diff",
    "ldm-morph-acdc": "ldm-morph:z",
}
_DIFFUSEMORPH = """\
Published for the 3-D method on other patients of the same data (DiffuseMorph, ECCV 2022), at the
papers' size on a GPU: five regions {}."""
PUBLISHED = {
    "diffusemorph": _DIFFUSEMORPH.format("0.802 with 0.161 % folds"),
    "voxelmorph": _DIFFUSEMORPH.format("0.787 with 0.169 % folds"),
    "voxelmorph-diff": _DIFFUSEMORPH.format("0.794 with 0.291 % folds"),
    "fsdiffreg": """\
Published for other patients of the same data (FSDiffReg, MICCAI 2023), at the paper's size on a
GPU: five regions 0.823 with 0.054 % folds.""",
    "vtn": """\
No figures for VTN on these data are published: in DiffuseReg (2024) it is a first stage, and Zhao
et al. (2019) registered brains and livers.""",
    "diffusereg": """\
Published for other patients of the same data (DiffuseReg, 2024), 437 M parameters, 2000 steps on a
GPU: five regions 0.836.""",
    "ldm-morph": """\
Published (arXiv 2411.15426): left ventricle and myocardium on one slice in the middle of each of 50
other ACDC patients, 0.555 before and 0.850 after with 0.157 % folds, by networks ten times the size
trained on a GPU.""",
}
"""What the papers report, on other patients."""


def start(config: dict) -> str:
    """Where the registration stage started, if another stage went before it."""
    first = discovery.load(config["method"]).presets[config["preset"]]["training"]
    if config["method"] == "ldm-morph":
        own = first["stages"]
        return (
            f"Before, on the same slices: autoencoder, {own['autoencoder']['steps']} steps, and "
            f"diffusion model, {own['diffusion']['steps']}\nsteps; registration 3000 steps with a "
            "displacement, 5500 with a velocity (learning rate\n0.0007, smoothness 0.02; the best "
            "was step 3500), and the steps above with instance\noptimisation as teacher (`teacher` "
            "0.02, smoothness 0.02). No labels took part. The time above\nis that of the last "
            "run.\n\n"
        )
    if config["name"] == "diffusemorph-acdc-3d":
        return (
            "Before, the 2-D form was trained for 1000 steps on the slices of the same volumes "
            "and inflated.\nThe 3-D steps that follow had neither teacher nor clipped gradients, "
            "which the preset now has;\nstep 62 was the best of 614, at a rate still near its "
            "peak: validations scattered between 0.716\nand 0.740. 1062 pairs were seen in all. "
            "The time above is that of the last run.\n\n"
        )
    if config["name"] == "diffusemorph-acdc-2d":
        return (
            "Before, 980 steps at a learning rate of 0.0008 without teacher and clipped gradients; "
            "the\nbest of these, step 770, is where the steps above started. The time above is "
            "that of the second\nrun. No labels took part.\n\n"
        )
    if "slices_first" not in first:
        return ""
    steps = first["slices_first"]["steps"]
    return (
        f"The 3-D network started from its 2-D form, trained for {steps} steps on the slices of\n"
        "the same volumes and inflated; the time above is that of the 3-D stage.\n\n"
    )


def passes(one: dict | None) -> str:
    """What a single pass, as in the paper, reaches."""
    if one is None:
        return ""
    return (
        "The weights register in two passes, the second on what the first has warped. A single\n"
        f"pass, as in the paper (`--set passes=1`): mean of the three {one['after_mean']:.3f}, "
        f"folds {one['folds_percent']:.3f} %.\n\n"
    )


def section(row: dict, config: dict, one: dict | None) -> str:
    """The card's table of what `benchmarks/acdc.py` measured."""
    return f"""
## Measured on the validation patients

`benchmarks/acdc.py`, {row["pairs"]} patients, uncropped files, ED moving and ES fixed, the
network alone through `regtool register`, on each image's own grid. These patients chose the
checkpoint and the few settings tried, so the figures are slightly optimistic; no other labelled
patients were used.

| | before | after |
|---|---|---|
| Dice, RV cavity | {row["before_RV"]:.3f} | {row["after_RV"]:.3f} |
| Dice, myocardium | {row["before_Myo"]:.3f} | {row["after_Myo"]:.3f} |
| Dice, LV cavity | {row["before_LV"]:.3f} | {row["after_LV"]:.3f} |
| mean of the three | {row["before_mean"]:.3f} | {row["after_mean"]:.3f} |
| five regions, as the diffusion papers | | {row["after_five"]:.3f} |
| LV and myocardium, {row["slices"]} slices that show both | {row["before_slices"]:.3f} \
| {row["after_slices"]:.3f} |
| the same, middle slice of each patient | {row["before_middle"]:.3f} | {row["after_middle"]:.3f} |
| folds, % of voxels | | {row["folds_percent"]:.3f} |
| SD of log J | | {row["sd_log_j"]:.3f} |

{PUBLISHED[config["method"]]}
Fold percentages of different papers do not compare.

{start(config)}{passes(one)}Most ACDC files carry a nominal pixel spacing, so hearts appear
at other sizes than in the body.
"""


def remarks(text: str | None) -> str:
    """The card's last section, in the words given."""
    return f"\n## Remarks\n\n{text.strip()}\n" if text and text.strip() else ""


def main() -> None:
    """Copy, extend, pin."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--measured", type=Path, help="JSON of benchmarks/acdc.py")
    parser.add_argument("--one-pass", type=Path, help="the same with --set passes=1")
    parser.add_argument("--remark", metavar="TEXT", help="Markdown for a section of each card")
    given = parser.parse_args()
    remark = given.remark
    if remark and remark.startswith("@"):
        remark = Path(remark[1:]).read_text(encoding="utf-8")
    rows = json.loads(given.measured.read_text()) if given.measured else []
    once = json.loads(given.one_pass.read_text()) if given.one_pass else []
    for run in given.runs:
        (folder,) = (run / "weights").iterdir()
        target = ROOT / "weights" / folder.name
        shutil.copytree(folder, target, dirs_exist_ok=True)
        config = json.loads((target / "config.json").read_text())
        preset = discovery.load(config["method"]).presets[config["preset"]]
        config["options"] = dict(preset.get("options", {}))  # what registration starts from
        for key in ("anatomy", "modality"):
            config[key] = preset.get(key, config[key])
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        row, one = (
            next((r for r in table if r["method"] == NAMES.get(folder.name)), None)
            for table in (rows, once)
        )
        with (target / "README.md").open("a", encoding="utf-8") as card:
            if row is not None:
                card.write(section(row, config, one))
            card.write(remarks(remark))
        digest = file_sha256(target / "model.safetensors")
        method = discovery.load(config["method"])
        print(folder.name, digest, write_pin(method, folder.name, {"sha256": digest}))


if __name__ == "__main__":
    main()
