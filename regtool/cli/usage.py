"""What typer says of a command line it cannot read, in the words of all other errors."""

from __future__ import annotations

import sys

from regtool.cli import ants
from regtool.errors import UsageError


def understood(error: Exception) -> UsageError | None:
    """The error of typer (or of click, below older ones) in one line; None for any other error.

    Typer itself would print three lines of usage before it.
    """
    if not hasattr(error, "format_message"):
        return None
    text = " ".join(error.format_message().split()).replace(": Value error, ", ": ")
    text, asks, options = text.removesuffix(".").partition(" (Possible options: ")
    if asks:
        text += f". Did you mean {options.removesuffix(')')}?"
    context = getattr(error, "ctx", None)
    command = _called() if context is None else context.command_path
    if not asks:
        text += ants.hint(command, text)
    join = "" if text.endswith("?") else ";"
    return UsageError(f"{text[:1].lower()}{text[1:]}{join} see {command} --help")


def _called() -> str:
    """The program and its command, where typer's error does not know them."""
    first = sys.argv[1:2]
    return " ".join(["regtool", *(word for word in first if not word.startswith("-"))])


def is_help(error: Exception) -> bool:
    """Whether this is no error but the help of a group called without a command."""
    return type(error).__name__ == "NoArgsIsHelpError"
