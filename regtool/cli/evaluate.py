"""``regtool evaluate``: how well registrations did."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regtool.cli import common, complete, progress
from regtool.cli.evaluation_tables import print_evaluation, print_series, tell
from regtool.engine.evaluate.settings import METRICS
from regtool.errors import PairsFailed, UsageError

if TYPE_CHECKING:
    from regtool.engine.evaluate.items import Item


class Labels(StrEnum):
    """How label maps are warped."""

    nearest = "nearest"
    label = "label"


class Differences(StrEnum):
    """How the Jacobian determinant is computed."""

    central = "central"
    forward = "forward"


class Intensities(StrEnum):
    """Which intensities are compared."""

    stored = "stored"
    unit = "unit"


PLOTS = (".png", ".pdf", ".svg")


def _file(name: str, what: str) -> Any:
    """An option for a file that takes the place of the one the record names."""
    kind = "FILE.csv" if name.endswith("points") else "FILE"
    return typer.Option(f"--{name}", metavar=kind, help=what, show_default="the record's own")


Fixed = Annotated[Path | None, _file("fixed", "Fixed image, if it has moved.")]
Moving = Annotated[Path | None, _file("moving", "Moving image, if it has moved.")]
FixedLabels = Annotated[Path | None, _file("fixed-labels", "Label map of the fixed image.")]
MovingLabels = Annotated[
    Path | None, _file("moving-labels", "Label map of the moving image, as it was.")
]
FixedPoints = Annotated[
    Path | None, _file("fixed-points", "Landmarks of the fixed image (CSV, LPS mm).")
]
MovingPoints = Annotated[
    Path | None, _file("moving-points", "Landmarks of the moving image (CSV, LPS mm).")
]


def evaluate(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECORD|FOLDER|TABLE.csv",
            help="Records, folders with records in them, or a table with a column 'record'.",
            show_default=False,
        ),
    ] = None,
    fixed: Fixed = None,
    moving: Moving = None,
    fixed_labels: FixedLabels = None,
    moving_labels: MovingLabels = None,
    fixed_points: FixedPoints = None,
    moving_points: MovingPoints = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="NAME,NAME",
            help=f"{', '.join(METRICS)}.",
            show_default="all that the files allow",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="NAME=1+2",
            help="Measure unions of labels, and take means over them; repeatable.",
        ),
    ] = None,
    regions: Annotated[
        str | None,
        typer.Option(
            "--regions",
            metavar="acdc|ixi|ixi-freesurfer",
            help="The structures of the papers: ACDC's five regions, the IXI benchmark's 30.",
            autocompletion=complete.words("acdc", "ixi", "ixi-freesurfer"),
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            "--names", metavar="TABLE", help="Table that names labels (CSV, FreeSurfer's)."
        ),
    ] = None,
    label_interpolation: Annotated[
        Labels,
        typer.Option(
            "--label-interpolation",
            metavar="nearest|label",
            help="nearest, or label: one-hot linear, arg-max.",
        ),
    ] = Labels.nearest,
    surface_tolerance: Annotated[
        float, typer.Option("--surface-tolerance", metavar="MM", help="Of the surface Dice.")
    ] = 2.0,
    differences: Annotated[
        Differences,
        typer.Option(
            "--jacobian",
            metavar="central|forward",
            help="Differences: central without the outermost layer.",
        ),
    ] = Differences.central,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask", metavar="FILE", help="Count images and Jacobian only inside (fixed image)."
        ),
    ] = None,
    intensities: Annotated[
        Intensities,
        typer.Option(
            "--intensities",
            metavar="stored|unit",
            help="unit: the fixed image's range becomes 0 to 1.",
        ),
    ] = Intensities.stored,
    runs: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="[NAME=]FOLDER|TABLE|RECORD",
            help="A run to set beside others, pair by pair; repeatable, the first is the "
            "reference of Wilcoxon's test.",
        ),
    ] = None,
    series: Annotated[
        Path | None,
        typer.Option(
            "--series",
            metavar="FILE",
            help="Generated 4-D series.",
            show_default="the record's Trajectory",
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            "--frames", metavar="FILE", help="Real 4-D series to compare a generated one with."
        ),
    ] = None,
    frame_range: Annotated[
        str | None,
        typer.Option(
            "--frame-range",
            metavar="FIRST:LAST",
            help="Real frames of the moving and the fixed image, from 0.",
            show_default="all",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE.csv", help="Write one row a registration to this file."
        ),
    ] = None,
    boxplot: Annotated[
        Path | None,
        typer.Option("--boxplot", metavar="FILE", help="Draw box plots (.png, .pdf, .svg)."),
    ] = None,
    overwrite: common.Overwrite = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
    as_json: common.Json = False,
) -> None:
    """Measure registrations: overlap, landmarks, similarity, folds, inverse consistency, time.

    Labels and landmarks are those that the record names unless others are given. With --frames, a
    generated 4-D series is compared with the real frames instead.
    """
    common.Talk(verbose, quiet, debug, log_file).start()
    from regtool.engine.device import limited_threads
    from regtool.imaging.writing import Outputs

    if boxplot is not None and boxplot.suffix.lower() not in PLOTS:
        raise UsageError(f"--boxplot {boxplot}: end it in {' or '.join(PLOTS)}")
    if frames is not None or series is not None or frame_range is not None:
        if runs or table or boxplot:
            raise UsageError("--frames goes with --series or one record, not with tables and plots")
        with limited_threads(threads):
            result = _series(sources or [], series, frames, frame_range)
        common.print_json(result) if as_json else print_series(result)
        return
    from regtool.engine.evaluate.items import collect, inputs_of
    from regtool.engine.evaluate.many import evaluate_all
    from regtool.engine.evaluate.names import read_names
    from regtool.engine.evaluate.settings import Settings, parse_metrics, parse_structures

    known = {} if names is None else read_names(names)
    settings = Settings(
        parse_metrics(metrics), parse_structures(group or [], regions, known), known,
        label_interpolation.value, differences.value, mask, surface_tolerance, intensities.value,
        device,
    )  # fmt: skip
    files = {
        name: path
        for name, path in (
            ("fixed", fixed), ("moving", moving), ("fixed_labels", fixed_labels),
            ("moving_labels", moving_labels), ("fixed_points", fixed_points),
            ("moving_points", moving_points),
        )
        if path is not None
    }  # fmt: skip
    items = collect(sources or [], files=files)
    named = _named_runs(items, sources or [], runs or [])
    for name, source in named:
        items += collect([source], name, files)
    if not items:
        raise UsageError("nothing to evaluate: give a record, a folder, a table, or --compare")
    wanted = {key: path for key, path in (("csv", table), ("plot", boxplot)) if path is not None}
    read = [*(sources or []), *(source for _, source in named)]  # tables among them
    read += [str(path) for path in (mask, names, *inputs_of(items)) if path is not None]
    outputs = Outputs(wanted, inputs=read, overwrite=overwrite)
    alone = len(items) == 1 and not runs and (sources or [""])[0].lower().endswith(".json")
    with limited_threads(threads), progress.bar(quiet) as report:
        told = None if report is None else lambda done, total: report("evaluate", done, total)
        result = evaluate_all(items, settings, told, strict=alone)
    if wanted:
        _write(outputs, result)
    tell(result)
    if as_json:
        common.print_json(result)
    else:
        print_evaluation(result)
    if result["failed"]:
        raise PairsFailed(f"{len(result['failed'])} of {len(items)} could not be evaluated")


def _named_runs(items: list[Item], sources: list[str], runs: list[str]) -> list[tuple[str, str]]:
    """Names and sources of the other runs; one source beside them gives its items a name too."""
    from regtool.engine.evaluate.items import name_runs

    taken = {item.run for item in items}
    if not runs or len(sources) != 1 or "" not in taken:
        return name_runs(runs, taken)
    (own, _), *others = name_runs(runs, taken - {""}, sources[0])
    items[:] = [item if item.run else replace(item, run=own) for item in items]
    return others


def _series(
    sources: list[str], series: Path | None, frames: Path | None, frame_range: str | None
) -> dict[str, Any]:
    from regtool.engine.evaluate.registered import Registered
    from regtool.engine.evaluate.series import TRAJECTORY, compare_series, parse_frames

    if frames is None:
        raise UsageError("--series and --frame-range need --frames, the real series")
    if (series is None) == (len(sources) != 1):
        raise UsageError("--frames needs either --series FILE or one record with a trajectory")
    generated = series
    if generated is None:
        generated = Registered(sources[0]).output(TRAJECTORY)
        if generated is None:
            raise UsageError(f"{sources[0]}: lists no {TRAJECTORY}; give --series FILE")
    result = compare_series(generated, frames, parse_frames(frame_range))
    for sentence in result["notes"]:
        common.log.warning("%s", sentence)
    return result


def _write(outputs: Any, result: dict[str, Any]) -> None:
    with outputs:
        for key in outputs.paths:
            if key == "csv":
                from regtool.engine.evaluate.sheet import write_csv

                write_csv(outputs.file(key), result)
            elif result["pairs"]:
                from regtool.engine.evaluate.boxplot import draw_boxplots

                draw_boxplots(outputs.file(key), result)
    for key in outputs.written:
        common.log.info("wrote %s", outputs.paths[key])
