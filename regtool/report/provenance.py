"""Where a result comes from: software, method, weights, command, inputs and outputs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from regtool.report.values import at, file_name, listed, one_line, sizes

Pairs = list[tuple[str, str]]


def facts(record: Mapping[str, Any]) -> Pairs:
    """What was run and how; pairs of name and value, only those that are known."""
    weights = record.get("weights")
    options = record.get("options")
    found: Pairs = [
        ("Method", " · ".join(t for t in (one_line(at(record, "method", "name")),
                                          one_line(at(record, "method", "distribution"))) if t)),
        ("Weights", _weights(weights)),
        ("Options", _options(options)),
        ("Settings that ran", _settings(record.get("settings"))),
        ("Refinement", _settings(at(record, "refine", "settings"))),
        ("Initial alignment", _initial(record)),
        ("Slice by slice", f"along {one_line(record['slices'])}" if record.get("slices") else ""),
        ("Network grid", _grid(record.get("network_grid"))),
        ("Device", " · ".join(one_line(record[k]) for k in ("device", "precision") if k in record)),
        ("Seed", one_line(record.get("seed"))),
        ("Date", one_line(record.get("date") or "")),
    ]  # fmt: skip
    software = record.get("software")
    if isinstance(software, Mapping):
        found.append(("Software", " · ".join(f"{k} {one_line(v)}" for k, v in software.items())))
    return [(name, value) for name, value in found if value]


def command(record: Mapping[str, Any]) -> str:
    """The command line, quoted for a shell; empty when there is none."""
    return shlex.join(listed(record.get("command")))


def inputs(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Both images and the files that came with them."""
    rows = []
    for which in ("fixed", "moving"):
        entry = record.get(which)
        if isinstance(entry, Mapping):
            path = entry.get("path")
            rows.append({
                "role": which, "name": file_name(path) or "in memory", "path": one_line(path),
                "grid": _grid(entry), "type": one_line(entry.get("type")),
                "sha256": one_line(entry.get("sha256")),
            })  # fmt: skip
    companions = record.get("companions")
    for role, path in companions.items() if isinstance(companions, Mapping) else ():
        rows.append({"role": str(role).replace("_", " "), "name": file_name(path),
                     "path": one_line(path), "grid": "", "type": "", "sha256": ""})  # fmt: skip
    return rows


def outputs(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """File names and hashes of what was written."""
    found = record.get("outputs")
    entries = found.values() if isinstance(found, Mapping) else ()
    return [(one_line(at(e, "file")), one_line(at(e, "sha256"))) for e in entries]


def affine(record: Mapping[str, Any]) -> list[list[str]]:
    """The rows of the affine, empty when it is the identity or no matrix."""
    matrix = record.get("affine")
    if record.get("affine_is_identity") is not False or not isinstance(matrix, list):
        return []
    return [
        [f"{v:.5g}" if isinstance(v, int | float) else one_line(v) for v in row]
        for row in matrix
        if isinstance(row, list)
    ]


def _options(found: Any) -> str:
    """Options that have a value; those left to the method are none of them."""
    known = found.items() if isinstance(found, Mapping) else ()
    return ", ".join(f"{key} {one_line(value)}" for key, value in known if value is not None)


def _settings(found: Any) -> str:
    """What a method filled in itself; one value a level reads ``100/60/10``."""
    known = found.items() if isinstance(found, Mapping) else ()
    return ", ".join(f"{key} {_by_level(value)}" for key, value in known)


def _by_level(value: Any) -> str:
    if not isinstance(value, list):
        return one_line(value)
    return "/".join(sizes(v).replace(" ", "") if isinstance(v, list) else one_line(v)
                    for v in value)  # fmt: skip


def _weights(found: Any) -> str:
    if not isinstance(found, Mapping) or not found.get("name"):
        return ""
    parts = [one_line(found["name"]), one_line(found.get("source"))]
    parts += [f"{k} {one_line(found[k])}" for k in ("hub", "revision", "sha256") if found.get(k)]
    return " · ".join(parts)


def _initial(record: Mapping[str, Any]) -> str:
    kind = one_line(record["initial"]) if record.get("initial") else ""
    if record.get("affine_is_identity") is False:
        return f"{kind}; the affine below belongs to the result"
    return kind


def _grid(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    return f"{sizes(found.get('size'))} voxels of {sizes(found.get('spacing'))} mm"
