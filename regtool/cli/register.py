"""``regtool register``: register a moving image to a fixed one."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from regtool.cli import cohort, common, complete, outcome, progress
from regtool.cli.interrupts import FirstAsks
from regtool.errors import UsageError

REFINE = 50
"""Steps of ``--refine`` without a number."""


class Topology(StrEnum):
    """What is done about folds."""

    off = "off"
    report = "report"
    repair = "repair"


FixedMask = Annotated[
    Path | None,
    typer.Option(
        "--fixed-mask",
        metavar="IMAGE",
        help="Where in the fixed image to look (methods with masks).",
    ),
]
MovingMask = Annotated[
    Path | None,
    typer.Option(
        "--moving-mask",
        metavar="IMAGE",
        help="Where in the moving image to look (methods with masks).",
    ),
]
FixedLabels = Annotated[
    Path | None,
    typer.Option(
        "--fixed-labels",
        metavar="LABELS",
        help="Label map of the fixed image, to measure Dice; only options such as --set labels=1 "
        "let a method use it.",
    ),
]
MovingLabels = Annotated[
    Path | None,
    typer.Option(
        "--moving-labels",
        metavar="LABELS",
        help="Label map of the moving image: warped and measured.",
    ),
]
FixedPoints = Annotated[
    Path | None,
    typer.Option(
        "--fixed-points", metavar="POINTS", help="Landmarks of the fixed image (CSV, LPS mm)."
    ),
]
MovingPoints = Annotated[
    Path | None,
    typer.Option(
        "--moving-points", metavar="POINTS", help="Landmarks of the moving image (CSV, LPS mm)."
    ),
]
Roi = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        metavar="IMAGE",
        help="Mask on the fixed image whose middle a method's box is placed on.",
    ),
]


def register(
    fixed: Annotated[
        Path | None,
        typer.Argument(metavar="FIXED", help="The image that stays.", show_default=False),
    ] = None,
    moving: Annotated[
        Path | None,
        typer.Argument(metavar="MOVING", help="The image that is warped.", show_default=False),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "-m",
            "--method",
            metavar="METHOD",
            help="See 'regtool methods'.",
            autocompletion=complete.methods,
        ),
    ] = "voxelmorph",
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PREFIX",
            help="Start of all output names; with --pairs the output folder.",
            show_default="MOVING_to_FIXED_",
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs",
            metavar="TABLE.csv|READER:PATH",
            help="Register many pairs: a table with columns fixed, moving and, if you like, name, "
            "fixed_labels, moving_labels, fixed_mask, roi … Complete ones are skipped.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="i/n", help="With --pairs: the i-th of n equal shares."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "-w",
            "--weights",
            metavar="NAME|PATH|hub:ORG/REPO@REV",
            help="Weights of the method.",
            show_default="the method's own",
            autocompletion=complete.weights,
        ),
    ] = None,
    initial: Annotated[
        str | None,
        typer.Option(
            "--initial",
            metavar="none|com|rigid|affine|FILE",
            help="Alignment before the method.",
            show_default="the weights' own",
            autocompletion=complete.words("none", "com", "rigid", "affine"),
        ),
    ] = None,
    fixed_mask: FixedMask = None,
    moving_mask: MovingMask = None,
    fixed_labels: FixedLabels = None,
    moving_labels: MovingLabels = None,
    fixed_points: FixedPoints = None,
    moving_points: MovingPoints = None,
    slices: Annotated[
        str | None,
        typer.Option(
            "--slices",
            metavar="x|y|z",
            help="Register a volume slice by slice along this axis with a 2-D method.",
            autocompletion=complete.words("x", "y", "z"),
        ),
    ] = None,
    roi: Roi = None,
    refine: Annotated[
        int | None,
        typer.Option(
            "--refine",
            min=1,
            metavar="[N]",
            help="Then fit the result to this pair: at most N steps at a quarter, half and full "
            "resolution (50 when N is left out).",
            show_default=False,
        ),
    ] = None,
    topology: Annotated[
        Topology,
        typer.Option(
            "--topology",
            help="Folds of the written field: not looked at, counted, or removed with the least "
            "change.",
        ),
    ] = Topology.report,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Also write 1InverseWarp and InverseWarped.")
    ] = False,
    composite: Annotated[
        bool, typer.Option("--composite", help="Also write Composite.h5 (affine and field).")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Also write a page with pictures."),
    ] = None,
    report_pngs: Annotated[
        Path | None,
        typer.Option("--report-pngs", metavar="FOLDER", help="Also write pictures as PNG files."),
    ] = None,
    fill: common.Fill = 0.0,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit 7, writing nothing, if similarity falls.")
    ] = False,
    settings: common.Set = None,
    overwrite: common.Overwrite = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check what shows without computing, print the plan as JSON, write nothing.",
        ),
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    device: common.Device = "auto",
    precision: common.Precision = "fp32",
    threads: common.Threads = None,
    seed: common.Seed = 0,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
    as_json: common.Json = False,
) -> None:
    """Register MOVING to FIXED (or --pairs); write the warped image, the transform and a record.

    PREFIX0GenericAffine.mat and PREFIX1Warp.nii.gz are read by ANTs, ITK and 3D Slicer; the
    PREFIXregtool.json beside them says what was done, and is written last.
    """
    common.Talk(verbose, quiet, debug, log_file).start()
    from dataclasses import replace

    from regtool.engine.dryrun import dry_run as rehearse
    from regtool.engine.register import plan_prefix, run
    from regtool.engine.request import Request

    many = pairs is not None
    request = Request(
        _needed(fixed, "FIXED", many), _needed(moving, "MOVING", many), method, output, weights,
        initial, fixed_mask, moving_mask, fixed_labels, moving_labels, fixed_points, moving_points,
        slices, roi, inverse, composite, refine, topology.value, fill, fail_if_worse,
        tuple(settings or ()), device, precision, threads, seed, offline, overwrite,
        report, report_pngs,
        ("regtool", *sys.argv[1:]),
    )  # fmt: skip
    if pairs is not None:
        given = {
            "FIXED": fixed, "MOVING": moving, "--roi": roi, "--report-pngs": report_pngs,
            "--fixed-mask": fixed_mask, "--moving-mask": moving_mask,
            "--fixed-labels": fixed_labels, "--moving-labels": moving_labels,
            "--fixed-points": fixed_points, "--moving-points": moving_points,
        }  # fmt: skip
        cohort.register_pairs(pairs, output, request, shard, given, dry_run, quiet, as_json)
        return
    if shard is not None:
        raise UsageError("--shard: a single pair cannot be shared; it goes with --pairs")
    request = replace(request, output=output or plan_prefix(request))
    if dry_run:
        common.print_json(rehearse(request))
        return
    start = time.perf_counter()
    with progress.watch(quiet, method) as watcher:
        show, stage = (None, None) if watcher is None else (watcher.show, watcher.stage)
        result = run(request, report=watcher, show=show, stop=FirstAsks(), stage=stage)
    outcome.tell(result, as_json, report, report_pngs, time.perf_counter() - start)
    outcome.tell_way(result.record, threads)


def _needed(image: Path | None, name: str, many: bool) -> Path:
    """An image that only --pairs can do without."""
    if image is None and not many:
        raise UsageError(f"missing {name}: regtool register FIXED MOVING, or --pairs TABLE.csv")
    return image or Path()


def with_default_refine(arguments: list[str]) -> list[str]:
    """Arguments of the program with N given where ``--refine`` stands without a whole number."""
    if arguments[:1] != ["register"]:
        return arguments
    given = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        bare = argument == "--refine" and not following.removeprefix("-").isdecimal()
        given.append(f"--refine={REFINE}" if bare else argument)
    return given
