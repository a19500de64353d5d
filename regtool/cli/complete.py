"""What the Tab key offers for the values of options and arguments: names of what is installed.

Nothing is said and nothing fails here: where a name cannot be found out there is none to offer, and
the shell goes on with the names of files.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from regtool.plugins.description import Method
    from regtool.plugins.options import OptionInfo

Names = Callable[[typer.Context, str], list[str]]


def _offered(names: Callable[[typer.Context], Iterable[str]]) -> Names:
    """Turn names into what typer asks for; those that begin as what is typed, or none at all."""

    @functools.wraps(names)
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        logging.disable()  # a broken plugin is no news for somebody who presses Tab
        try:
            return [name for name in names(ctx) if name.startswith(incomplete)]
        except Exception:
            return []

    # Typer reads what it passes from the annotations, those of the wrapped function else.
    complete.__annotations__ = {"ctx": typer.Context, "incomplete": str}
    del complete.__wrapped__  # type: ignore[attr-defined]
    return complete


@_offered
def methods(ctx: typer.Context) -> Iterable[str]:
    """The installed methods."""
    from regtool.plugins import discovery

    return discovery.names()


@_offered
def trainable(ctx: typer.Context) -> Iterable[str]:
    """The installed methods that have a recipe."""
    from regtool.plugins import discovery

    return [method.name for method in discovery.load_all()[0] if method.recipe]


@_offered
def weights(ctx: typer.Context) -> Iterable[str]:
    """All weights that have a name: of the method on the line, or of all where it takes none."""
    from regtool.weights.listing import listing

    if "method" not in ctx.params:
        return [row["name"] for row in listing()[0]]
    chosen = _method(ctx)
    rows = [] if chosen is None else listing(chosen.name)[0]
    return [row["name"] for row in rows]


@_offered
def presets(ctx: typer.Context) -> Iterable[str]:
    """The presets of the method on the line."""
    method = _method(ctx)
    return [] if method is None else method.presets


@_offered
def settings(ctx: typer.Context) -> Iterable[str]:
    """``NAME=`` of every option of the method on the line, ``NAME=VALUE`` where it is a choice."""
    from regtool.plugins import discovery
    from regtool.plugins.options import describe_options

    method = _method(ctx)
    if method is None:
        return []
    options = discovery.resolve_import(method.options, method.name)
    return [word for option in describe_options(options) for word in _assignments(option)]


def words(*choices: str) -> Names:
    """Words that are always the same, where others (such as files) may be given as well."""
    return _offered(lambda ctx: choices)


@contextlib.contextmanager
def whole_words() -> Iterator[None]:
    """Give typer whole words where bash has cut them at ``=``, and give bash what it has not yet.

    Bash takes ``NAME=VALUE`` for three words and puts what it gets in the place of the last.
    """
    words = os.environ.get("COMP_WORDS", "").split()
    at = os.environ.get("COMP_CWORD", "")
    if os.environ.get("_REGTOOL_COMPLETE") != "complete_bash" or not at.isdecimal():
        yield
        return
    words = words[: int(at) + 1]
    if int(at) == len(words) and words[-1:] != ["="]:  # after a space: a new word
        words.append("")
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")) and not joined[-1].startswith("-"):
            joined[-1] += word
        else:
            joined.append(word)
    known = joined[-1].rpartition("=")[0] + "=" if joined and "=" in joined[-1] else ""
    os.environ.update(COMP_WORDS=" ".join(joined), COMP_CWORD=str(len(joined) - 1))
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            yield
    finally:
        for line in told.getvalue().splitlines():
            print(line.removeprefix(known))


def _assignments(option: OptionInfo) -> list[str]:
    choices = re.match(
        r"[\w.-]+(\|[\w.-]+)+", "true|false" if option.type == "bool" else option.type
    )
    values = choices.group().split("|") if choices else [""]
    return [f"{option.name}={value}" for value in values]


def _method(ctx: typer.Context) -> Method | None:
    """The description of the method that the line names so far, or of the default."""
    from regtool.plugins import discovery

    name: Any = ctx.params.get("method")
    if name is None:
        name = next((p.default for p in ctx.command.params if p.name == "method"), None)
    return discovery.load(name) if isinstance(name, str) else None
