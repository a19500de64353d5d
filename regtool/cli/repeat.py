"""``regtool rerun`` and ``regtool diff``: is it the same result again, and what differs?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regtool.cli import common, progress
from regtool.cli.tables import print_table

if TYPE_CHECKING:
    from regtool.engine.repeat.compare import Comparison, File

ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="Exit 7 unless the outputs are identical.")
]
RecordArgument = Annotated[Path, typer.Argument(metavar="RECORD", help="A _regtool.json.")]


def rerun(
    record: RecordArgument,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PREFIX",
            show_default="removed",
            help="Keep the new files, for example to restore lost ones.",
        ),
    ] = None,
    overwrite: common.Overwrite = False,
    exit_code: ExitCode = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
    as_json: common.Json = False,
) -> None:
    """Repeat the registration of RECORD and say whether the outputs are identical.

    The images must be the ones that were registered (SHA-256). Another device, number of threads
    or version of PyTorch may round differently: the table says how far the files are apart. Old
    outputs that are missing are made again but cannot be compared.
    """
    common.Talk(verbose, quiet, debug, log_file).start()
    from regtool.engine.repeat.rerun import rerun as engine

    with progress.watch(quiet) as watcher:
        result = engine(
            record, output, report=watcher, device=device, threads=threads, offline=offline,
            overwrite=overwrite, command=("regtool", *sys.argv[1:]),
        )  # fmt: skip
    if result.record is not None:
        common.log.info("wrote %s", result.record)
    elif result.comparison.missing:
        common.log.info("some of the old files are missing; -o PREFIX keeps the new ones")
    _tell(result.comparison, ("then", "now"), as_json, exit_code)


def diff(
    first: Annotated[Path, typer.Argument(metavar="RECORD", help="A _regtool.json.")],
    second: Annotated[Path, typer.Argument(metavar="OTHER", help="Another one.")],
    exit_code: ExitCode = False,
    verbose: common.Verbose = 0,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
    log_file: common.LogFile = None,
    as_json: common.Json = False,
) -> None:
    """Compare two registrations: what was asked, what was measured, and the files written."""
    common.Talk(verbose, quiet, debug, log_file).start()
    from regtool.engine.repeat.compare import compare

    _tell(compare(first, second), (str(first), str(second)), as_json, exit_code)


def _tell(comparison: Comparison, names: tuple[str, str], as_json: bool, exit_code: bool) -> None:
    if as_json:
        common.print_json({"schema": 1, "identical": comparison.identical, **asdict(comparison)})
    else:
        facts = [(f.name, _short(f.first), _short(f.second)) for f in comparison.facts]
        if facts:
            print_table(facts, header=("differs", *names))
            print()
        print_table([(f.role, _state(f)) for f in comparison.files], header=("output", "state"))
    for sentence in comparison.changed:
        common.log.warning("%s", sentence)
    answer = _answer(comparison)
    if exit_code and not comparison.identical:
        common.log.error("%s", answer)  # also with --quiet
        raise typer.Exit(7)
    common.log.info("%s", answer)


def _answer(comparison: Comparison) -> str:
    missing = ", ".join(comparison.missing)
    if not missing:
        return f"the outputs are {'identical' if comparison.identical else 'not identical'}"
    rest = "identical" if comparison.rest_identical else "not identical"
    others = f"the others are {rest}" if len(comparison.missing) < len(comparison.files) else ""
    return f"missing, and so not compared: {missing}{'; ' if others else ''}{others}"


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _state(file: File) -> str:
    if file.state != "differs":
        return f"{file.state} ({file.why})" if file.why else file.state
    if file.largest is None or file.share is None:
        return f"differs ({file.why})"
    return f"differs by at most {file.largest:.3g}, in {100 * file.share:.3g} % of the values"
