"""``regtool jacobian``: the determinant map of a registration and its statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regtool.cli import common
from regtool.cli.tables import print_table

_WORDS = {
    "sd": "SD",
    "sd_log": "SD of log J",
    "count": "folds, J <= 0 (voxels)",
    "percent": "folds (%)",
    "voxels": "counted (voxels)",
    "floored": "J < 0.001 (voxels)",
    "affine_determinant": "the affine's own",
}


def jacobian(
    source: Annotated[
        Path,
        typer.Argument(metavar="RECORD|WARP", help="A _regtool.json, or a displacement field."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Output file.",
            show_default="PREFIXJacobian.nii.gz",
        ),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Write the logarithm, floored at log(0.001).")
    ] = False,
    mask: Annotated[
        Path | None, typer.Option("--mask", metavar="IMAGE", help="Count only inside this mask.")
    ] = None,
    overwrite: common.Overwrite = False,
    threads: common.Threads = None,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
    as_json: common.Json = False,
) -> None:
    """Write the Jacobian determinant map and print its statistics.

    The map has all voxels; the statistics are those of the determinant, also with --log, and leave
    out the outermost layer, where differences are one-sided and extremes mean less.

    det <= 0 means that tissue folds over; values above 1 are expansion from fixed to moving space.
    """
    common.Talk(verbose, quiet, debug, log_file).start()
    from regtool.engine.jacobian import jacobian as engine

    result = engine(source, output=output, log=log, mask=mask, overwrite=overwrite,
                    threads=threads)  # fmt: skip
    summary = result.summary
    if log and summary["floored"]:
        common.log.warning("%d voxels were floored before the logarithm", summary["floored"])
    common.log.info("wrote %s%s", result.path, ", the logarithm of J" if log else "")
    if as_json:
        common.print_json({"output": str(result.path), **summary})
        return
    where = "without the border layer" if mask is None else "in the mask, without the border layer"
    rows = [(_WORDS.get(name, name), _number(value)) for name, value in summary.items()]
    print_table(rows, ("determinant J", where))


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
