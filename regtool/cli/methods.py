"""``regtool methods``: what is installed, and everything about one method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from regtool.cli.common import Debug, Json, LogFile, Quiet, Talk, Verbose
from regtool.cli.tables import cell, print_json, print_table
from regtool.plugins import discovery
from regtool.plugins.description import Method


def methods(
    name: Annotated[
        str | None, typer.Argument(help="Show everything about this method.", show_default=False)
    ] = None,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """List the installed methods, or show one with its options, presets and weights."""
    Talk(verbose, quiet, debug, log_file).start()
    if name is None:
        _list(as_json)
    else:
        _show(discovery.find(name), discovery.load(name), as_json)


def _list(as_json: bool) -> None:
    found, failures = discovery.load_all()
    discovery.warn(failures)
    if as_json:
        broken = [{"name": f.name, "error": str(f.error)} for f in failures]
        print_json({"methods": [_facts(method) for method in found], "broken": broken})
        return
    rows = [
        (m.name, m.task, _dimensions(m.ndim), ", ".join(m.modality), ", ".join(m.anatomy),
         ", ".join(ref.name for ref in m.weights) or "-", m.licence)
        for m in found
    ]  # fmt: skip
    print_table(rows, ("method", "task", "images", "modality", "anatomy", "weights", "licence"))


def _show(entry: discovery.Entry, method: Method, as_json: bool) -> None:
    from regtool.plugins.options import describe_options

    options_class = discovery.resolve_import(method.options, f"options of method '{method.name}'")
    options = describe_options(options_class)
    if as_json:
        facts = _facts(method)
        facts["presets"] = method.presets
        facts["options"] = [asdict(option) for option in options]
        facts["distribution"] = {"name": entry.distribution, "version": entry.version}
        print_json(facts)
        return
    print(f"{method.name}: {method.summary}\n")
    print_table(_overview(entry, method), indent=2)
    _section("presets", ("preset", "images", "network"), _preset_rows(method))
    weights_header = ("weights", "images", "anatomy", "modality", "licence", "published at")
    _section("weights", weights_header, _weights_rows(method))
    rows = [(o.name, o.type, cell(o.default), o.help) for o in options]
    _section("options (--set NAME=VALUE)", ("option", "type", "default", "meaning"), rows)


def _section(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    print(f"\n{title}" if rows else f"\n{title}: none")
    print_table(rows, header, indent=2)


def _overview(entry: discovery.Entry, method: Method) -> list[tuple[str, str]]:
    rows = [
        ("task", method.task),
        ("images", _dimensions(method.ndim)),
        ("modality", ", ".join(method.modality)),
        ("anatomy", ", ".join(method.anatomy)),
        ("uses", ", ".join(sorted(method.capabilities)) or "the two images only"),
        ("trainable", "yes" if method.recipe else "no"),
        ("licence", method.licence),
        ("from", entry.owner),
    ]
    if method.paper is not None:
        paper = method.paper
        rows.append(("paper", f"{paper.authors} ({paper.year}). {paper.title}. {paper.url}"))
    return rows


def _preset_rows(method: Method) -> list[tuple[str, ...]]:
    return [
        (name, _dimensions((int(preset.get("ndim", 0)),)), _settings(preset.get("network", {})))
        for name, preset in method.presets.items()
    ]


def _weights_rows(method: Method) -> list[tuple[str, ...]]:
    """One row a set of weights; the first of each dimension is the default and says so."""
    rows: list[tuple[str, ...]] = []
    seen: set[int] = set()
    for ref in method.weights:
        mark = "" if ref.ndim in seen else " (default)"
        seen.add(ref.ndim)
        place = f"{ref.hub}@{ref.revision}" if ref.hub else "-"
        kind = _dimensions((ref.ndim,)) + mark
        rows.append((ref.name, kind, ref.anatomy, ref.modality, ref.licence, place))
    return rows


def _facts(method: Method) -> dict[str, Any]:
    """The description as plain data, without what needs another import."""
    return {
        "name": method.name,
        "summary": method.summary,
        "task": method.task,
        "ndim": list(method.ndim),
        "modality": list(method.modality),
        "anatomy": list(method.anatomy),
        "capabilities": sorted(method.capabilities),
        "trainable": method.recipe is not None,
        "licence": method.licence,
        "paper": asdict(method.paper) if method.paper else None,
        "weights": [asdict(ref) for ref in method.weights],
        "presets": list(method.presets),
        "api": method.api,
    }


def _dimensions(ndim: tuple[int, ...]) -> str:
    return ", ".join(f"{n}-D" for n in ndim)


def _settings(mapping: Any) -> str:
    return ", ".join(f"{key}={cell(value)}" for key, value in mapping.items()) or "-"
