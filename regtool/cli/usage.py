"""What typer says of a command line it cannot read, in the words of all other errors."""

from __future__ import annotations

import sys
from typing import Any

from regtool.cli import ants
from regtool.errors import UsageError
from regtool.words import in_plain_words


def understood(error: Exception) -> UsageError | None:
    """The error of typer (or of click, below older ones) in one line; None for any other error.

    Typer itself would print three lines of usage before it.
    """
    if not hasattr(error, "format_message"):
        return None
    text = " ".join(error.format_message().split()).replace(": Value error, ", ": ")
    head, colon, why = text.removesuffix(".").partition(": Input should be ")
    if colon:
        text = f"{head}: {in_plain_words(f'Input should be {why}')}"
    text, asks, options = text.removesuffix(".").partition(" (Possible options: ")
    if asks:
        text += f". Did you mean {options.removesuffix(')')}?"
    context = getattr(error, "ctx", None)
    command = _called() if context is None else context.command_path
    if context is not None:
        text = _without_variable(text, error, context)
        if "unexpected extra argument" in text:
            text = _without_equals(context) or text
    if not asks:
        text += ants.hint(command, text)
    join = "" if text.endswith("?") else ";"
    return UsageError(f"{text[:1].lower()}{text[1:]}{join} see {command} --help")


def _without_variable(text: str, error: Any, context: Any) -> str:
    """The text without the environment variable of an option whose value was typed."""
    option = getattr(error, "param", None)
    variable = getattr(option, "envvar", None)
    source = None if option is None else context.get_parameter_source(option.name)
    if variable is None or getattr(source, "name", "") != "COMMANDLINE":
        return text
    return text.replace(f" (env var: '{variable}')", "")


def _without_equals(context: Any) -> str | None:
    """What is wrong where ``--set NAME VALUE`` was typed, with VALUE as an argument too many."""
    for option in context.command.params:
        form = getattr(option, "metavar", None) or ""
        values = context.params.get(option.name)
        if not form.isupper() or not form[:1].isalpha() or "=" not in form:
            continue
        for value in values if isinstance(values, list | tuple) else ():
            if "=" not in str(value):
                return f"{option.opts[0]} {value}: write it as {form}, without a space"
    return None


def _called() -> str:
    """The program and its command, where typer's error does not know them."""
    first = sys.argv[1:2]
    return " ".join(["regtool", *(word for word in first if not word.startswith("-"))])


def is_help(error: Exception) -> bool:
    """Whether this is no error but the help of a group called without a command."""
    return type(error).__name__ == "NoArgsIsHelpError"
