"""``regtool plugins``: installed plugins and their state, and a skeleton for a new one."""

from __future__ import annotations

import logging
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regtool.cli.common import Command, Debug, Json, LogFile, Quiet, Talk, Verbose, hand_down
from regtool.cli.tables import cell, print_json, print_table
from regtool.data.readers import PLACES, READERS, settings_of
from regtool.errors import UsageError
from regtool.plugins import discovery, readers, skeleton
from regtool.plugins.description import Method

if TYPE_CHECKING:
    from regtool.plugins.options import OptionInfo

log = logging.getLogger("regtool.plugins")

app = typer.Typer(
    help="List the installed plugins, or start a new one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback(help=app.info.help)(hand_down)


@app.command("list", cls=Command)
def list_plugins(
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """List every installed plugin, method or reader, with its state.

    The state of a broken one is the reason; of one whose tool is missing, what to install.
    """
    Talk(verbose, quiet, debug, log_file).start()
    methods, broken = discovery.load_all()
    rows = _states("method", discovery.available(), broken)
    missing = {method.name: _missing(method) for method in methods}
    rows += _states("reader", discovery.available(readers.GROUP), readers.failures(READERS))
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            (row["name"], row["kind"], f"{row['distribution']} {row['version']}", row["value"],
             row["error"] or _sound(row, missing.get(row["name"])))
            for row in rows
        ],
        ("plugin", "kind", "distribution", "module", "state"),
    )  # fmt: skip


def _missing(method: Method) -> list[str]:
    """What pip would have to install for a method to run."""
    # The top package only: looking for a part of it would import it.
    top = {module.partition(".")[0]: pip for module, pip in method.tools.items()}
    return [pip for module, pip in top.items() if find_spec(module) is None]


def _sound(row: dict[str, Any], missing: list[str] | None) -> str:
    if not missing or row["kind"] != "method":
        return "ok"
    extra = f"'{row['distribution']}[{row['name']}]'"
    return f"ok, but needs {', '.join(missing)} (pip install {extra})"


def _states(
    kind: str, entries: list[discovery.Entry], failures: list[discovery.Failure]
) -> list[dict[str, Any]]:
    """What is known of each entry of a group, with the reason where it does not load."""
    broken = {failure.name: str(failure.error) for failure in failures}
    return [
        {
            "name": entry.name,
            "kind": kind,
            "value": entry.value,
            "distribution": entry.distribution,
            "version": entry.version,
            "error": broken.get(entry.name),
        }
        for entry in entries
    ]


@app.command("reader", cls=Command)
def show_reader(
    name: Annotated[
        str, typer.Argument(metavar="READER", help="Name of a reader, as in --data NAME:….")
    ],
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """Show what a data reader reads, and its settings."""
    Talk(verbose, quiet, debug, log_file).start()
    if name not in {*READERS, *readers.names()}:
        known = ", ".join(sorted({*READERS, *readers.names()}))
        raise UsageError(f"there is no reader '{name}'; there are {known}")
    own = name in READERS and name not in readers.names()
    place, summary, (distribution, version), settings = _own(name) if own else _brought(name)
    if as_json:
        print_json(
            {
                "name": name,
                "summary": summary,
                "distribution": {"name": distribution, "version": version},
                "settings": [asdict(setting) for setting in settings],
            }
        )
        return
    print(f"{name}:{place}, of {distribution} {version}: {summary}")
    if settings:
        print()
        rows = [(s.name, s.type, cell(s.default), s.help) for s in settings]
        print_table(rows, ("setting", "type", "default", ""), indent=2)


_Shown = tuple[str, str, tuple[str, str], list["OptionInfo"]]
"""What stands behind the colon, summary, distribution and version, and settings of a reader."""


def _own(name: str) -> _Shown:
    """A reader that comes with regtool."""
    from regtool import __version__
    from regtool.plugins.options import OptionInfo

    place, summary = PLACES[name]
    settings = [
        OptionInfo(key, setting.allowed, setting.shown_default, setting.help)
        for key, setting in settings_of(name).items()
    ]
    return place, summary, ("regtool", __version__), settings


def _brought(name: str) -> _Shown:
    """A reader of another distribution. Raises PluginError."""
    from regtool.plugins.options import describe_options

    reader, entry = readers.load(name, READERS), readers.find(name, READERS)
    owner = (entry.distribution, entry.version)
    return "PLACE", reader.summary, owner, describe_options(reader.settings)


@app.command("new", cls=Command)
def new_plugin(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the new method: lower-case words joined by hyphens."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Folder in which to make the plugin's folder."
        ),
    ] = Path(),
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """Write a complete, working plugin to start from.

    Prints the path of its folder.
    """
    Talk(verbose, quiet, debug, log_file).start()
    folder = skeleton.create(name, output)
    if as_json:
        print_json({"name": name, "folder": str(folder)})
    else:
        print(folder)
    log.info(
        "next: pip install -e '%s[test]' && regtool methods %s && pytest %s", folder, name, folder
    )
