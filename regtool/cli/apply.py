"""``regtool apply``: transforms on images, labels, series and landmarks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from regtool.cli import common


class Interpolation(StrEnum):
    """How values between voxels are found."""

    linear = "linear"
    nearest = "nearest"
    label = "label"
    bspline = "bspline"


def apply(
    subject: Annotated[
        Path, typer.Argument(metavar="IMAGE|LABELS|POINTS", help="NIfTI file, or landmarks (.csv).")
    ],
    transforms: Annotated[
        list[str],
        typer.Option(
            "-t",
            "--transform",
            metavar="TRANSFORM",
            help="Transform in the order of antsApplyTransforms (the last is applied first); "
            "[affine.mat,1] inverts; a _regtool.json is the whole chain. Repeatable.",
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            "-r",
            "--reference",
            metavar="IMAGE",
            help="Image whose grid the result has.",
            show_default="the field's or record's grid",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Output file.", show_default="NAME_warped.nii.gz"
        ),
    ] = None,
    interpolation: Annotated[
        Interpolation,
        typer.Option("-n", "--interpolation", help="label and nearest keep label values."),
    ] = Interpolation.linear,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Go the other way: fixed image to moving space.")
    ] = False,
    fill: common.Fill = 0.0,
    overwrite: common.Overwrite = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
    as_json: common.Json = False,
) -> None:
    """Apply transforms to an image, a label map, a 4-D series, an RGB image or landmarks.

    Landmarks go from fixed to moving space, as with antsApplyTransformsToPoints; --inverse brings
    moving landmarks to the fixed image.
    """
    common.Talk(verbose, quiet, debug, log_file).start()
    from regtool.engine.apply import apply as engine

    result = engine(
        subject,
        transforms,
        reference=reference,
        output=output,
        interpolation=interpolation.value,
        inverse=inverse,
        fill=fill,
        overwrite=overwrite,
        device=device,
        threads=threads,
    )
    for sentence in result.warnings:
        common.log.warning("%s", sentence)
    for sentence in result.notes:
        common.log.info("%s", sentence)
    common.log.info("wrote %s", result.path)
    if as_json:
        common.print_json({"output": str(result.path), "warnings": result.warnings})
