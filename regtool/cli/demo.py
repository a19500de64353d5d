"""``regtool demo``: images to try the program on."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from regtool.cli import common
from regtool.cli.messages import LOGGER


class Kind(StrEnum):
    """What the demo shows."""

    heart2d = "heart2d"
    heart3d = "heart3d"
    brain = "brain"
    lung = "lung"


def demo(
    kind: Annotated[
        Kind,
        typer.Option(
            help="heart2d, heart3d: cardiac MR at end-systole (fixed) and end-diastole (moving). "
            "brain: T1 MR of two people. lung: CT at expiration (fixed) and inspiration (moving), "
            "with 300 landmarks and the true field."
        ),
    ] = Kind.heart3d,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Folder for the files.", file_okay=False
        ),
    ] = Path(),
    overwrite: common.Overwrite = False,
    seed: common.Seed = 0,
    as_json: common.Json = False,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
) -> None:
    """Write a generated pair: fixed.nii.gz, moving.nii.gz, fixed_labels.nii.gz and
    moving_labels.nii.gz; with --kind lung also fixed_points.csv, moving_points.csv and
    truth_1Warp.nii.gz.

    The images are computed, not measured, and free to use; --seed varies the anatomy.
    """
    common.Talk(verbose, quiet, debug, log_file).start()
    from regtool.data.breathing_files import ALL, POINTS, part_paths, write_breathing
    from regtool.data.phantom_files import PARTS, check_free, write_phantom
    from regtool.data.phantoms import make
    from regtool.paths import expanded

    folder = expanded(output)
    breathing = kind is Kind.lung
    paths = part_paths(folder, ALL if breathing else PARTS)
    check_free(paths, overwrite)
    phantom = make(kind.value, seed)
    if breathing:
        write_breathing(phantom, paths, overwrite=overwrite)
    else:
        write_phantom(phantom, paths, overwrite)
    names = ", ".join(f"{value} {name}" for value, name in phantom.names.items())
    LOGGER.info("wrote %s (labels: %s)", ", ".join(str(p) for p in paths.values()), names)
    files = [str(paths["fixed"]), str(paths["moving"])]
    if breathing:  # landmarks make a TRE
        for part in POINTS:
            files += [f"--{part.replace('_', '-')}", str(paths[part])]
    method = "" if kind.value.startswith("heart") else "-m optimise "
    LOGGER.info("next: regtool register %s%s", method, shlex.join(files))
    if as_json:
        facts = {part: str(path) for part, path in paths.items()}
        labels = {str(value): name for value, name in phantom.names.items()}
        common.print_json({"kind": kind.value, "seed": seed, **facts, "labels": labels})
