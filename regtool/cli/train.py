"""``regtool train``: train a method on pairs of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regtool.cli import common, complete, progress
from regtool.paths import expanded

if TYPE_CHECKING:
    from regtool.engine.training import TrainResult

Method = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--method",
        metavar="NAME",
        help="The method to train; see 'regtool methods'.",
        autocompletion=complete.trainable,
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="READER:PATH",
        help="Pairs to train on: READER:PATH, a table pairs.csv, or phantom; repeatable.",
    ),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="The run folder, made if need be.")
]
Stage = Annotated[
    str | None, typer.Option("--stage", metavar="NAME", help="Train only this stage of the recipe.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="The method's preset.",
        show_default="its first",
        autocompletion=complete.presets,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="N",
        min=1,
        help="Number of steps; of several stages, at most so many in each.",
    ),
]
Rate = Annotated[float | None, typer.Option("--lr", metavar="RATE", help="Learning rate.")]
Batch = Annotated[
    int | None, typer.Option("--batch", metavar="N", min=1, help="Examples in a step.")
]
Val = Annotated[
    str | None,
    typer.Option(
        "--val",
        metavar="READER:PATH",
        help="Pairs that choose the best weights.",
        show_default="those that --data marks so",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in DIR; all else is as it was.")
]
Initial = Annotated[
    str | None,
    typer.Option(
        "--init-weights",
        metavar="NAME|PATH",
        help="Start from these weights, or from another run's folder.",
        autocompletion=complete.weights,
    ),
]
LabelLoss = Annotated[
    float | None,
    typer.Option("--label-loss", metavar="W", help="Add W times the soft Dice of warped labels."),
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        "--time-limit", metavar="TIME", help="Stop in good order after 90s, 30m, 1h30m or HH:MM:SS."
    ),
]
Deterministic = Annotated[
    bool | None,
    typer.Option(
        "--deterministic",
        help="Refuse operations whose results vary from run to run (CPU only).",
        show_default=False,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the preset: network.KEY, preparation.KEY, or KEY of its training; repeatable.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]",
        envvar="REGTOOL_DEVICE",
        help=common.DEVICE_HELP,
        show_default="auto",
        autocompletion=complete.words("auto", "cpu", "cuda"),
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="fp32|bf16|fp16",
        help="Arithmetic of the network; other than fp32 on a GPU only.",
        show_default="fp32",
        autocompletion=complete.words("fp32", "bf16", "fp16"),
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=2**31 - 1,
        help="Seed of everything random.",
        show_default="0",
    ),
]


def train(
    output: Output,
    method: Method = None,
    data: Data = None,
    stage: Stage = None,
    preset: Preset = None,
    steps: Steps = None,
    lr: Rate = None,
    batch: Batch = None,
    val: Val = None,
    resume: Resume = False,
    init_weights: Initial = None,
    label_loss: LabelLoss = None,
    time_limit: TimeLimit = None,
    deterministic: Deterministic = None,
    assignments: Assignments = None,
    overwrite: common.Overwrite = False,
    device: Device = None,
    precision: Precision = None,
    threads: common.Threads = None,
    seed: Seed = None,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
    as_json: common.Json = False,
) -> None:
    """Train a method and keep the best weights in DIR/weights.

    Both directions of every pair are trained. DIR also holds log.csv, TensorBoard logs and a
    checkpoint, so that a run that was stopped or killed goes on with: regtool train --resume -o DIR
    """
    common.Talk(verbose, quiet, debug, log_file).start()
    from regtool.engine.training import TrainRequest
    from regtool.engine.training import train as run
    from regtool.engine.training.stop import parse_duration

    request = TrainRequest(
        output=expanded(output), method=method, data=data or (), stage=stage, preset=preset,
        steps=steps, lr=lr, batch=batch, val=val, resume=resume, overwrite=overwrite,
        init_weights=init_weights, label_loss=label_loss, deterministic=deterministic,
        assignments=assignments or (), device=device, precision=precision, threads=threads,
        seed=seed, time_limit=parse_duration(time_limit) if time_limit else None,
    )  # fmt: skip
    with progress.steps(quiet) as bar:
        result = run(request, bar)
    if as_json:
        common.print_json(_summary(result))
    elif not quiet:
        _say(result)


def _summary(result: TrainResult) -> dict[str, Any]:
    return {
        "ending": result.ending,
        "stage": result.stage,
        "step": result.step,
        "folder": str(result.folder),
        "weights": str(result.weights) if result.weights else None,
        "best_step": result.best_step if result.best is not None else None,
        "validation": result.figures,
    }


def _say(result: TrainResult) -> None:
    ending = {"early": "stopped early", "time": "stopped at the time limit"}.get(
        result.ending, "finished"
    )
    best = f", best at step {result.best_step}" if result.best is not None else ""
    common.log.info("%s at step %d of stage %r%s", ending, result.step, result.stage, best)
    if result.weights is not None:
        common.log.info("weights: %s", result.weights)
