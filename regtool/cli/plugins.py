"""``regtool plugins``: installed plugins and their state, and a skeleton for a new one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from regtool.cli.common import Debug, Json
from regtool.cli.tables import print_json, print_table
from regtool.plugins import discovery, skeleton

log = logging.getLogger("regtool.plugins")

app = typer.Typer(
    help="List the installed plugins, or start a new one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_plugins(as_json: Json = False, debug: Debug = False) -> None:
    """List every installed plugin, the broken ones with the reason."""
    _, failures = discovery.load_all()
    broken = {failure.name: str(failure.error) for failure in failures}
    entries = discovery.available()
    if as_json:
        print_json(
            [
                {
                    "name": entry.name,
                    "value": entry.value,
                    "distribution": entry.distribution,
                    "version": entry.version,
                    "error": broken.get(entry.name),
                }
                for entry in entries
            ]
        )
        return
    rows = [(e.name, e.owner, e.value, broken.get(e.name, "ok")) for e in entries]
    print_table(rows, ("method", "distribution", "module", "state"))


@app.command("new")
def new_plugin(
    name: Annotated[
        str, typer.Argument(help="Name of the new method: lower-case words joined by hyphens.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder in which to make the plugin's folder.")
    ] = Path(),
    debug: Debug = False,
) -> None:
    """Write the folder of a complete, working plugin to start from; print its path."""
    if name in discovery.names():
        log.warning("a method '%s' is installed already: the two would clash", name)
    folder = skeleton.create(name, output)
    print(folder)
    log.info("next: pip install -e %s && regtool methods %s && pytest %s", folder, name, folder)
