"""Options that several commands share, and what they do."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from regtool import __version__
from regtool.cli import complete, messages
from regtool.cli.tables import print_json as print_json

log = logging.getLogger("regtool.cli")

DEVICE_HELP = "auto takes a GPU where there is one; an explicit cuda that is absent fails."
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]",
        envvar="REGTOOL_DEVICE",
        help=DEVICE_HELP,
        autocompletion=complete.words("auto", "cpu", "cuda"),
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="fp32|bf16|fp16",
        help="Arithmetic of the network.",
        autocompletion=complete.words("fp32", "bf16", "fp16"),
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        envvar="REGTOOL_THREADS",
        help="CPU threads.",
        show_default="all",
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Seed of everything random."),
]
Verbose = Annotated[
    int, typer.Option("-v", "--verbose", count=True, show_default=False, help="Say more.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only warnings and errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
LogFile = Annotated[
    Path | None,
    typer.Option("--log-file", metavar="FILE", help="Also write messages to this file."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
Fill = Annotated[
    float,
    typer.Option(
        "--fill",
        metavar="VALUE",
        help="Intensity of warped images beyond the image they come from; -1000 suits CT.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An option of the method; repeatable.",
        autocompletion=complete.settings,
    ),
]


class Command(TyperCommand):
    """A command whose help names its arguments without the types that Python has for them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = _nothing  # type: ignore[attr-defined]


def _nothing(*args: Any, **kwargs: Any) -> None:
    """No type: newer versions of typer would print <path> or <list[str]>."""


@dataclass(frozen=True)
class Talk:
    """How much a command says."""

    verbose: int
    quiet: bool
    debug: bool
    log_file: Path | None

    def start(self) -> None:
        """Apply it."""
        messages.configure(self.verbose, self.quiet, self.debug, self.log_file)


def hand_down(
    context: typer.Context,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
) -> None:
    """Callback of a group: what is said before the name of a subcommand counts as after it."""
    given = {"verbose": verbose, "quiet": quiet, "debug": debug, "log_file": log_file}
    defaults = {name: value for name, value in given.items() if value}
    context.default_map = {context.invoked_subcommand or "": defaults}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"regtool {__version__}")
        raise typer.Exit


def show_version(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Deformable medical image registration: NIfTI in, NIfTI and ITK transforms out."""
