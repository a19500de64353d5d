"""``regtool weights``: list, find, verify, fetch and publish pretrained weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regtool.cli import complete
from regtool.cli.common import Command, Debug, Json, LogFile, Quiet, Talk, Verbose, hand_down
from regtool.cli.tables import print_json, print_table
from regtool.errors import UsageError, WeightsError
from regtool.paths import expanded, is_dir

if TYPE_CHECKING:
    from regtool.weights.stock import Verdict

app = typer.Typer(
    name="weights",
    help="List, find, verify, fetch and publish pretrained weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

log = logging.getLogger("regtool.weights")


app.callback(help=app.info.help)(hand_down)


@app.command("list", cls=Command)
def list_(
    method: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD",
            help="Only this method's weights.",
            show_default=False,
            autocompletion=complete.methods,
        ),
    ] = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """List all weights and where they are on this machine."""
    Talk(verbose, quiet, debug, log_file).start()
    from regtool.plugins import discovery
    from regtool.weights.listing import listing
    from regtool.weights.places import in_vain

    rows, failures = listing(method)
    discovery.warn(failures)
    if vain := in_vain():
        log.warning("%s", vain.removeprefix("; "))
    if as_json:
        print_json(rows)
        return
    if not rows:
        log.info("no installed method has published or shipped weights")
    header = ("weights", "method", "images", "anatomy", "modality", "licence", "on this machine")
    print_table([_cells(row) for row in rows], header)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    place = {"directory": "REGTOOL_WEIGHTS_DIR", "cache": "Hub cache"}.get(
        row["source"], row["source"]
    )
    if row["other_than_pinned"]:
        place = f"{place}, other than pinned"
    missing = "no (regtool weights pull)" if row["hub"] else "no (not published)"
    return (
        row["name"],
        row["method"],
        f"{row['ndim']}-D" if row["ndim"] else "-",
        row["anatomy"],
        row["modality"],
        row["licence"],
        "damaged" if row["problem"] else place or missing,
    )


@app.command(cls=Command)
def path(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the weights.", autocompletion=complete.weights
        ),
    ],
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """Print the folder of weights, without any request."""
    Talk(verbose, quiet, debug, log_file).start()
    from regtool.weights import stock

    weights = stock.local(name)
    if as_json:
        print_json(weights.record())
    else:
        print(weights.folder)


@app.command(cls=Command)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|PATH",
            help="Weights to check; without any, all that are on this machine.",
            show_default=False,
            autocompletion=complete.weights,
        ),
    ] = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """Check files, and load them into their network."""
    Talk(verbose, quiet, debug, log_file).start()
    from regtool.plugins import discovery
    from regtool.weights import stock

    if names:
        verdicts = [stock.verify(name) for name in names]
        bad = [v for v in verdicts if v.problem or not v.present]
    else:
        methods, failures = discovery.load_all()
        discovery.warn(failures)
        verdicts = [stock.verify_reference(m, ref) for m in methods for ref in m.weights]
        verdicts += [stock.verify_own(name) for name in stock.own()]
        bad = [v for v in verdicts if v.problem]
    if as_json:
        print_json([vars(verdict) for verdict in verdicts])
    else:
        print_table([(v.name, v.method or "-", _word(v)) for v in verdicts])
    if bad:
        raise WeightsError(
            f"{len(bad)} of {len(verdicts)} failed: "
            + "; ".join(v.problem or f"'{v.name}' is not on this machine" for v in bad)
        )


def _word(verdict: Verdict) -> str:
    if not verdict.present:
        return "not on this machine"
    if verdict.problem:
        return "failed"
    return f"sound ({verdict.source}, {'matches its pin' if verdict.pinned else 'not pinned'})"


@app.command(cls=Command)
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="WEIGHTS",
            help="Names, or hub:org/repo@revision.",
            autocompletion=complete.weights,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Also copy them there, for a machine without internet (REGTOOL_WEIGHTS_DIR).",
        ),
    ] = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """Fetch weights from the Hub at their pinned commit.

    Prints the folder of each. Weights that are here already cost no request; a damaged download is
    replaced.
    """
    Talk(verbose, quiet, debug, log_file).start()
    from regtool.weights import stock

    records = []
    for name in names:
        weights = stock.pull(name)
        for warning in weights.warnings:
            log.warning(warning)
        folder = weights.folder if to is None else stock.copy_to(weights, expanded(to))
        records.append({**weights.record(), "folder": str(folder)})
        if not as_json:
            print(folder)
    if as_json:
        print_json(records)


@app.command(cls=Command)
def push(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER", help="Weights to publish.", autocompletion=complete.weights
        ),
    ],
    repository: Annotated[str, typer.Argument(metavar="ORG/REPO", help="Repository on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    message: Annotated[
        str | None,
        typer.Option(
            "--message", metavar="TEXT", help="Message of the commit.", show_default=False
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write-pin/--no-write-pin",
            help="Put the pin into the plugin's description, if it is in a source checkout.",
        ),
    ] = True,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """Publish a weights folder on the Hub and pin it.

    The folder holds README.md, config.json and model.safetensors. Needs a token that may
    write (HF_TOKEN, or 'hf auth login').
    """
    Talk(verbose, quiet, debug, log_file).start()
    from regtool.plugins import discovery
    from regtool.weights import publish, stock

    publish.check_repository(repository)
    weights = stock.read_folder(name) if is_dir(name) else stock.local(name)
    if weights.folder is None or weights.name is None:
        raise UsageError(f"{name}: no weights folder")
    publish.check_folder(weights.folder)
    method = discovery.load(weights.method)
    stock.check_network(method, weights)
    pin = publish.push(weights.folder, repository, private=private, message=message)
    changed = publish.write_pin(method, weights.name, pin) if write else None
    if as_json:
        print_json({"name": weights.name, **pin, "written": changed and str(changed)})
    else:
        print("\n".join(f'{key}="{value}",' for key, value in pin.items()))
    if changed is not None:
        log.info("pin written into %s", changed)
    else:
        log.info(
            "put these into WeightsRef(name='%s', ...) of method '%s'", weights.name, method.name
        )
