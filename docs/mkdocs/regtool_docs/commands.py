"""A page for every command, from the program itself: what ``--help`` says, as tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

from regtool_docs.tables import code, table


def pages() -> dict[str, str]:
    """The pages ``commands/NAME.md`` by name; a group of commands is one page."""
    import typer

    from regtool.cli.app import create

    program = typer.main.get_command(create())
    root = _context(program, "regtool", **program.context_settings)
    commands: dict[str, Any] = program.commands  # type: ignore[attr-defined]
    return {f"commands/{name}.md": _page(name, command, root) for name, command in commands.items()}


def _context(command: Any, name: str, **more: Any) -> Any:
    """As the program runs the command: names of options are inherited from above."""
    return type(command).context_class(command, info_name=name, **more)


def _page(name: str, command: Any, root: Any) -> str:
    context = _context(command, name, parent=root)
    parts = [f"# regtool {name}\n", *_described(command, context, 2)]
    for sub_name, sub in getattr(command, "commands", {}).items():
        sub_context = _context(sub, sub_name, parent=context)
        parts += [f"## regtool {name} {sub_name}\n", *_described(sub, sub_context, 3)]
    return "\n".join(parts)


def _described(command: Any, context: Any, level: int) -> Iterator[str]:
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    for paragraph in re.split(r"\n\s*\n", _plain(command.help)):
        yield escape(" ".join(paragraph.split())) + "\n"
    parameters = [p for p in command.get_params(context) if not getattr(p, "hidden", False)]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    if arguments:
        yield f"{'#' * level} Arguments\n"
        yield table(("", ""), [_argument(p, context) for p in arguments])
    if options:
        yield f"{'#' * level} Options\n"
        rows = [_option(p, context) for p in options]
        anchors = [
            f"{context.command_path.replace(' ', '-')}-{_longest(p).lstrip('-')}" for p in options
        ]
        header = ("option", "", "default")
        yield table(header, rows, anchors)


def _plain(text: str | None) -> str:
    return (text or "").split("\f")[0].strip()


def _argument(parameter: Any, context: Any) -> tuple[str, str]:
    name, meaning = parameter.get_help_record(context) or (parameter.name, "")
    return code(_clean(name)), escape(meaning)


def _option(parameter: Any, context: Any) -> tuple[str, str, str]:
    """What the program prints of an option, with its default and variable taken apart."""
    syntax, meaning = parameter.get_help_record(context)
    meaning, _, brackets = meaning.partition("  [")
    facts = [fact.strip() for fact in brackets.removesuffix("]").split(";") if fact.strip()]
    default = ""
    notes = [meaning]
    for fact in facts:
        key, colon, value = fact.partition(":")
        if key == "default" and colon:
            default = value.strip()
        elif key == "env var" and colon:
            notes.append(f"Variable {code(value.strip())}.")
        else:
            notes.append(f"({escape(fact)})")
    shown = default[1:-1] if default.startswith("(") else code(default)
    meaning = " ".join([escape(notes[0]), *notes[1:]])
    return code(_clean(syntax)), meaning, shown


def _clean(syntax: str) -> str:
    """Types as placeholders, choices as they are, both without the library's angle brackets."""

    def plain(match: re.Match[str]) -> str:
        inner = match[1].removesuffix(" range")
        return inner if "|" in inner else inner.upper()

    return re.sub(r"<([^<>]+)>", plain, syntax)


def _longest(parameter: Any) -> str:
    return max([*parameter.opts, *parameter.secondary_opts], key=len)
