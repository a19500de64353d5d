"""``regtool methods``: what is installed, and everything about one method."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regtool.cli import complete
from regtool.cli.common import Debug, Json, LogFile, Quiet, Talk, Verbose
from regtool.cli.tables import cell, print_json, print_table
from regtool.plain import flat
from regtool.plugins import discovery
from regtool.plugins.description import Method

if TYPE_CHECKING:
    from regtool.plugins.options import OptionInfo

_FEW = 3
"""Settings of a network that are told in full for each preset."""


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD",
            help="Show everything about this method.",
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
        (m.name, m.task, _dimensions(m.ndim), _suited(m),
         ", ".join(ref.name for ref in m.weights) or "-", m.licence)
        for m in found
    ]  # fmt: skip
    print_table(rows, ("method", "task", "images", "for", "weights", "licence"))


def _suited(method: Method) -> str:
    """What the weights know, where there are any: a network is of no use for anything else."""
    if method.weights:
        return "; ".join(dict.fromkeys(f"{ref.anatomy}, {ref.modality}" for ref in method.weights))
    if method.recipe:
        return "any (train)"
    return (
        ", ".join(dict.fromkeys(w for w in (*method.anatomy, *method.modality) if w != "any"))
        or "any"
    )


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
    set_by = _set_by_weights(method)
    by_preset = any(option.name == "preset" for option in options)
    rows = [(o.name, o.type, _default(o, by_preset, set_by.get(o.name)), o.help) for o in options]
    _section("options (--set NAME=VALUE)", ("option", "type", "default", "meaning"), rows)
    if method.recipe:
        training = {name: dict(_training(preset)) for name, preset in method.presets.items()}
        title = "training (regtool train --preset PRESET --set KEY=VALUE)"
        _section(title, ("preset", "steps"), [(n, _steps(t)) for n, t in training.items()])
        keys = dict.fromkeys(key for found in training.values() for key in found)
        _print_prose(f"keys: {', '.join(keys) or 'none'}")


def _section(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    print(f"\n{title}" if rows else f"\n{title}: none")
    print_table(rows, header, indent=2)


def _print_prose(text: str) -> None:
    """Print indented text in lines that fit the terminal."""
    width = min(shutil.get_terminal_size().columns, 100)
    print(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="    ",
                        break_on_hyphens=False))  # fmt: skip


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
    """One row a preset; a later network is told by what it does not share with an earlier one."""
    rows: list[tuple[str, ...]] = []
    earlier: dict[str, Mapping[str, Any]] = {}
    for name, preset in method.presets.items():
        network = preset.get("network", {})
        told = _settings(network)
        for other, base in earlier.items():
            changed = {k: v for k, v in network.items() if k not in base or base[k] != v}
            if len(network) > _FEW and base.keys() <= network.keys():
                text = f"as {other}" + (f", {_settings(changed)}" if changed else "")
                told = min(told, text, key=len)
        rows.append((name, _dimensions((int(preset.get("ndim", 0)),)), told))
        earlier[name] = network
    return rows


def _set_by_weights(method: Method) -> dict[str, dict[str, str]]:
    """Options that shipped weights set: their values, by option and name of the weights."""
    from regtool.errors import WeightsError
    from regtool.weights import shipped
    from regtool.weights.files import read_config

    found: dict[str, dict[str, str]] = {}
    for ref in method.weights:
        files = shipped.find(method, ref.name)
        if files is None:
            continue
        try:
            options = dict(read_config(files[0]).get("options") or {})
        except (WeightsError, TypeError, ValueError):  # ``weights verify`` tells of it
            continue
        for name, value in options.items():
            found.setdefault(name, {})[ref.name] = cell(value)
    return found


def _default(option: OptionInfo, by_preset: bool, weights: dict[str, str] | None) -> str:
    """What holds where the option is not given."""
    told = "by preset" if option.default is None and by_preset else cell(option.default)
    if not weights:
        return told
    if len(set(weights.values())) == 1:
        return f"{told} (with the shipped weights: {next(iter(weights.values()))})"
    each = ", ".join(f"{name}: {value}" for name, value in weights.items())
    return f"{told} (with the weights {each})"


def _training(preset: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    settings = preset.get("training")
    return flat(settings) if isinstance(settings, Mapping) and settings else iter(())


def _steps(settings: dict[str, Any]) -> str:
    """Steps of every stage that a preset gives some of its own, under the key that sets them."""
    steps = {key: value for key, value in settings.items() if key.split(".")[-1] == "steps"}
    return str(steps["steps"]) if list(steps) == ["steps"] else _settings(steps)


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
