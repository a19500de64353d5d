"""What the public modules offer, recorded in api_surface.json: nothing vanishes unannounced.

The rule is docs/api.md's. ``python tests/plugins/api_surface.py`` records additions, and what is
marked as deprecated with the version and the day. It refuses to drop a name before its time, and a
signature that old calls do not fit any more, unless ``API_VERSION`` was raised.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("api_surface.json")
DAYS = 183
"""Six months: how long a name stays at least once it is marked."""
MINORS = 2
"""Minor releases for which it stays at least."""

Surface = dict[str, Any]
"""``{"version", "api_version", "modules": {module: {name: entry}}}``."""


def modules() -> list[str]:
    """The public modules."""
    import regtool.api

    inner = sorted(module.name for module in pkgutil.iter_modules(regtool.api.__path__))
    return ["regtool.api", *(f"regtool.api.{name}" for name in inner), "regtool.testing"]


def current() -> Surface:
    """The surface of the installed regtool."""
    from regtool import __version__
    from regtool.api import API_VERSION

    found = {name: _module(importlib.import_module(name)) for name in modules()}
    return {"version": __version__, "api_version": API_VERSION, "modules": found}


def _module(module: Any) -> dict[str, Any]:
    listed = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
    return {name: _entry(getattr(module, name)) for name in sorted(listed)}


def _entry(value: Any) -> dict[str, Any]:
    """One public name: its kind, what it is called with, and what is said of its end."""
    entry: dict[str, Any] = {}
    origin = getattr(value, "__module__", None) or ""
    if callable(value) and not origin.startswith("regtool"):
        return {"kind": f"from {origin.partition('.')[0]}"}
    if inspect.isclass(value):
        entry["kind"] = "class"
        if dataclasses.is_dataclass(value) or _has_own_start(value):
            entry["called"] = _signature(value)
        members = {name: text for name, text in _members(value) if text}
        if members:
            entry["members"] = dict(sorted(members.items()))
    elif callable(value):
        entry |= {"kind": "function", "called": _signature(value)}
    else:
        entry["kind"] = "value"
        if isinstance(value, frozenset):
            entry["holds"] = sorted(value)
    if said := getattr(value, "__deprecated__", None):
        entry["deprecated"] = {"text": said}
    if marks := dict(_marked_fields(value)):
        entry["deprecated_fields"] = marks
    return entry


def _marked_fields(value: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """The fields of a dataclass that are marked by themselves, with what is said of their end."""
    for field in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
        if said := field.metadata.get("deprecated"):
            yield field.name, {"text": said}


def _has_own_start(kind: type) -> bool:
    """Whether regtool says how to make one; what a protocol is called with says its __call__."""
    return "__init__" in vars(kind) and not getattr(kind, "_is_protocol", False)


def _members(kind: type) -> Iterator[tuple[str, str]]:
    """Public methods and properties that regtool itself defines."""
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("regtool"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") and name != "__call__":
                continue
            if isinstance(value, property):
                yield name, "property"
            elif isinstance(value, classmethod | staticmethod):
                yield name, _signature(value.__func__)
            elif inspect.isfunction(value):
                yield name, _signature(value)


def _signature(value: Callable[..., Any]) -> str:
    """A signature as Python writes it; defaults that are not literals stand as ``...``."""
    signature = inspect.signature(value)
    parameters = list(signature.parameters.values())
    parts: list[str] = []
    for before, parameter in zip([None, *parameters], parameters, strict=False):
        kind = parameter.kind
        if before and before.kind is before.POSITIONAL_ONLY and kind is not before.kind:
            parts.append("/")
        first = before is None or before.kind not in (kind, parameter.VAR_POSITIONAL)
        if kind is parameter.KEYWORD_ONLY and first:
            parts.append("*")
        parts.append(_parameter(parameter))
    if parameters and parameters[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        parts.append("/")
    returned = _text(signature.return_annotation)
    return f"({', '.join(parts)})" + (f" -> {returned}" if returned else "")


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = _text(parameter.annotation)
    shown = f"{stars}{parameter.name}" + (f": {annotation}" if annotation else "")
    if parameter.default is parameter.empty:
        return shown
    default = repr(parameter.default) if _literal(parameter.default) else "..."
    return f"{shown} = {default}"


def _text(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _literal(value: Any) -> bool:
    try:
        ast.literal_eval(repr(value))
    except (ValueError, SyntaxError):
        return False
    return True


def breaks(old: Surface, new: Surface, today: datetime.date) -> list[str]:
    """What the new surface takes from plugins that the old one served, against the rule."""
    if new["api_version"] > old["api_version"]:
        return []
    found = []
    for module, names in old["modules"].items():
        for name, entry in names.items():
            now = new["modules"].get(module, {}).get(name)
            if now is None:
                if why := _too_early(entry, new["version"], today):
                    found.append(f"{module}.{name} is gone: {why}")
            else:
                free = {
                    field
                    for field, mark in entry.get("deprecated_fields", {}).items()
                    if not _too_early({"deprecated": mark}, new["version"], today)
                }
                lost = _lost(entry, now, free)
                found += [f"{module}.{name}: {what}" for what in lost]
    return found


def _too_early(entry: dict[str, Any], version: str, today: datetime.date) -> str:
    """Why a name may not go yet; empty if it may."""
    mark = entry.get("deprecated")
    if mark is None:
        return "mark it with typing_extensions.deprecated first"
    days = (today - datetime.date.fromisoformat(mark["date"])).days
    (major, minor), (then_major, then_minor) = _numbers(version), _numbers(mark["since"])
    if days < DAYS:
        return f"marked {days} days ago, {DAYS} are needed"
    if major > then_major:
        return ""
    if major >= 1:
        return f"marked in {mark['since']}; it may go with {major + 1}.0"
    return "" if minor - then_minor >= MINORS else f"marked in {mark['since']}, too few releases"


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _lost(old: dict[str, Any], new: dict[str, Any], free: AbstractSet[str]) -> Iterator[str]:
    """What plugins would miss of a name; the fields in ``free`` may go."""
    if old["kind"] != new["kind"]:
        yield f"it was a {old['kind']} and is a {new['kind']}"
        return
    if "called" in old:
        yield from _no_longer_fits(old["called"], new.get("called", "()"), free)
    for member, called in old.get("members", {}).items():
        now = new.get("members", {}).get(member)
        if now is None:
            yield f".{member} is gone"
        elif (called == "property") != (now == "property"):
            yield f".{member} was a {'property' if called == 'property' else 'method'}"
        elif called != "property":
            yield from (f".{member}: {what}" for what in _no_longer_fits(called, now))
    for item in old.get("holds", ()):
        if item not in new.get("holds", ()):
            yield f"{item!r} is gone"


def _no_longer_fits(old: str, new: str, free: AbstractSet[str] = frozenset()) -> Iterator[str]:
    """Calls that fit the old signature and not the new one, where parameters in ``free`` may go."""
    before, after = _parameters(old), _parameters(new)
    for name, (place, default) in before.items():
        if name not in after:
            if name in free:
                continue
            yield f"the parameter {name} is gone"
            continue
        now_place, now_default = after[name]
        if place is not None and now_place != place:
            yield f"the parameter {name} has another place"
        if default is not None and now_default is None:
            yield f"the parameter {name} has no default any more"
        elif default is not None and default != now_default:
            yield f"the default of {name} was {default} and is {now_default}"
    for name, (_, default) in after.items():
        if name not in before and default is None:
            yield f"the new parameter {name} has no default"


def _parameters(signature: str) -> dict[str, tuple[int | None, str | None]]:
    """Place (None: by name only) and default of each parameter; ``*args`` counts as optional."""
    inner, _, _ = signature.rpartition(" -> ")
    code = ast.parse(f"def f{inner or signature}: ...").body[0]
    assert isinstance(code, ast.FunctionDef)
    given = code.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + [*given.defaults]
    found: dict[str, tuple[int | None, str | None]] = {
        each.arg: (place, default and ast.unparse(default))
        for place, (each, default) in enumerate(zip(positional, defaults, strict=True))
    }
    for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found[each.arg] = (None, default and ast.unparse(default))
    for star in (given.vararg, given.kwarg):
        if star is not None:
            found[star.arg] = (None, "...")
    return found


def recorded() -> Surface:
    """The surface as it was recorded."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def merged(old: Surface, new: Surface, today: datetime.date) -> Surface:
    """The new surface, its deprecated names with the version and day on which they were marked."""
    for module, names in new["modules"].items():
        for name, entry in names.items():
            if "deprecated" in entry:
                before = old["modules"].get(module, {}).get(name, {}).get("deprecated", {})
                entry["deprecated"] |= _first(before, new["version"], today)
            for field, mark in entry.get("deprecated_fields", {}).items():
                earlier = old["modules"].get(module, {}).get(name, {}).get("deprecated_fields", {})
                mark |= _first(earlier.get(field, {}), new["version"], today)
    return new


def _first(before: dict[str, str], version: str, today: datetime.date) -> dict[str, str]:
    """Version and day of a mark: those of the earlier one, else now."""
    return {
        "since": before.get("since", version),
        "date": before.get("date", today.isoformat()),
    }


def main() -> int:
    """Record the surface. Returns 1, and records nothing, where the rule forbids it."""
    today = datetime.datetime.now(datetime.UTC).date()
    old, new = (recorded() if RECORD.exists() else None), current()
    problems = [] if old is None else breaks(old, new, today)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    surface = merged(old or {"modules": {}}, new, today)
    text = json.dumps(surface, indent=1, ensure_ascii=False) + "\n"
    RECORD.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
