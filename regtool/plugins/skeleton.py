"""Writes the folder of a new plugin from the template that comes with regtool."""

from __future__ import annotations

import keyword
import re
import tempfile
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from regtool.errors import OutputError, UsageError
from regtool.paths import expanded
from regtool.plugins import discovery
from regtool.plugins.description import API_VERSION

TEMPLATE_SUFFIX = ".template"
"""Template files end in this, so that no tool takes them for source or test files of regtool."""


def create(name: str, parent: Path) -> Path:
    """Write ``parent/regtool-NAME``, a working plugin for the method ``name``; return its path.

    The folder appears complete or not at all. Raises UsageError for a name that cannot be a
    method's or is that of an installed method or package, OutputError when the folder exists or
    cannot be written.
    """
    values = _names(name)
    for entry in discovery.installed():  # those that REGTOOL_LOAD_PLUGINS leaves out, too
        if entry.name == name:
            raise UsageError(
                f"the name '{name}' is taken by an installed method, of {entry.owner}; choose "
                f"another, such as 'my-{name}'"
            )
    if find_spec(values["PACKAGE"]) is not None:
        raise UsageError(
            f"the name '{name}' is taken: its package {values['PACKAGE']} is installed already; "
            f"choose another, such as 'my-{name}'"
        )
    folder = expanded(parent) / values["DISTRIBUTION"]
    if folder.exists():
        raise OutputError(f"{folder}: it exists already; choose another name or another --output")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".regtool-new-", dir=folder.parent) as scratch:
            made = Path(scratch) / folder.name
            _fill(made, values)
            made.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def _names(name: str) -> dict[str, str]:
    """What the placeholders of the template stand for."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"'{name}' cannot name a method; use lower-case words joined by hyphens, "
            "such as 'my-method'"
        )
    distribution = name if name.startswith("regtool-") else f"regtool-{name}"
    package = distribution.replace("-", "_")
    words = "".join(word.capitalize() for word in name.split("-"))
    if keyword.iskeyword(words):  # "none", "true", "false"
        raise UsageError(f"'{name}' cannot name a method: it is a word of Python")
    return {
        "NAME": name,
        "DISTRIBUTION": distribution,
        "PACKAGE": package,
        "CLASS": words,
        "API": str(API_VERSION),
    }


def _fill(target: Path, values: dict[str, str]) -> None:
    """Copy the template into ``target`` with the names put in, in paths and in texts."""
    with resources.as_file(resources.files("regtool.plugins") / "template") as template:
        for source in sorted(template.rglob(f"*{TEMPLATE_SUFFIX}")):
            relative = source.relative_to(template).as_posix().removesuffix(TEMPLATE_SUFFIX)
            path = target / _substitute(relative, values)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_substitute(source.read_text("utf-8"), values), "utf-8")


def _substitute(text: str, values: dict[str, str]) -> str:
    """Replace each ``@NAME@`` that has a value."""
    return re.sub(r"@([A-Z]+)@", lambda match: values.get(match[1], match[0]), text)
