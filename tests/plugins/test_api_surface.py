"""Nothing of the public interface vanishes or changes without the two steps of docs/api.md."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import sys
import types
from typing import Any

import api_surface
import pytest

TODAY = datetime.date(2030, 6, 1)
COMMAND = "python tests/plugins/api_surface.py"


def surface(version: str = "0.5.0", api: int = 1, **entries: dict[str, Any]) -> api_surface.Surface:
    return {"version": version, "api_version": api, "modules": {"regtool.api": entries}}


def function(called: str, **more: Any) -> dict[str, Any]:
    return {"kind": "function", "called": called, **more}


def marked(since: str, date: str) -> dict[str, Any]:
    return function("() -> None", deprecated={"text": "use b", "since": since, "date": date})


def test_the_record_is_what_there_is() -> None:
    recorded, current = api_surface.recorded(), api_surface.current()
    assert api_surface.breaks(recorded, current, datetime.datetime.now(datetime.UTC).date()) == []
    kept = api_surface.merged(recorded, copy.deepcopy(current), TODAY)
    changed = [
        f"{module}.{name}"
        for module in {*recorded["modules"], *kept["modules"]}
        for name in {*recorded["modules"].get(module, {}), *kept["modules"].get(module, {})}
        if recorded["modules"].get(module, {}).get(name)
        != kept["modules"].get(module, {}).get(name)
    ]
    assert not changed, f"{', '.join(sorted(changed))}: new or changed; record it with {COMMAND}"
    assert recorded["api_version"] == current["api_version"], f"record it with {COMMAND}"


@pytest.mark.parametrize(
    ("entry", "version", "words"),
    [
        (function("() -> None"), "0.9.0", "mark it with typing_extensions.deprecated first"),
        (marked("0.3.0", "2030-05-01"), "0.9.0", "marked 31 days ago, 183 are needed"),
        (marked("0.4.0", "2029-01-01"), "0.5.0", "marked in 0.4.0, too few releases"),
        (marked("0.3.0", "2029-01-01"), "0.5.0", None),
        (marked("0.9.0", "2029-01-01"), "1.0.0", None),
        (marked("1.2.0", "2029-01-01"), "1.9.0", "it may go with 2.0"),
        (marked("1.2.0", "2029-01-01"), "2.0.0", None),
    ],
)
def test_a_name_goes_in_two_steps(entry: dict[str, Any], version: str, words: str | None) -> None:
    found = api_surface.breaks(surface(a=entry), surface(version), TODAY)
    if words is None:
        assert found == []
    else:
        assert (
            len(found) == 1 and found[0].startswith("regtool.api.a is gone") and words in found[0]
        )


def test_another_contract_may_take_names() -> None:
    assert api_surface.breaks(surface(a=function("()")), surface(api=2), TODAY) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("(a: int) -> int", "(a: int, b: int = 2) -> int", None),
        ("(a: int) -> int", "(a: int, *, b: int = 2) -> int", None),
        ("(a: int) -> int", "(a: int | str) -> int", None),
        ("(*, a: int, b: int)", "(*, b: int, a: int)", None),
        ("(*, a: int)", "(a: int)", None),
        ("(a: int) -> int", "() -> int", "the parameter a is gone"),
        ("(a: int) -> int", "(b: int) -> int", "the parameter a is gone"),
        ("(a: int)", "(a: int, b: int)", "the new parameter b has no default"),
        ("(a: int, b: int)", "(b: int, a: int)", "the parameter a has another place"),
        ("(a: int)", "(*, a: int)", "the parameter a has another place"),
        ("(a: int = 1)", "(a: int)", "the parameter a has no default any more"),
        ("(a: str = 'x y')", "(a: str = 'z')", "the default of a was 'x y' and is 'z'"),
        ("(*args: int)", "()", "the parameter args is gone"),
    ],
)
def test_old_calls_go_on_to_fit(old: str, new: str, words: str | None) -> None:
    found = api_surface.breaks(surface(a=function(old)), surface(a=function(new)), TODAY)
    if words is None:
        assert found == []
    else:
        assert f"regtool.api.a: {words}" in found


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"kind": "class"}, {"kind": "function"}, "it was a class and is a function"),
        ({"kind": "value", "holds": ["x", "y"]}, {"kind": "value", "holds": ["y"]}, "'x' is gone"),
        ({"kind": "class", "members": {"f": "()"}}, {"kind": "class"}, ".f is gone"),
        (
            {"kind": "class", "members": {"f": "property"}},
            {"kind": "class", "members": {"f": "()"}},
            ".f was a property",
        ),
        (
            {"kind": "class", "members": {"f": "(self, a)"}},
            {"kind": "class", "members": {"f": "(self)"}},
            ".f: the parameter a is gone",
        ),
    ],
)
def test_parts_of_a_name_stay(old: dict[str, Any], new: dict[str, Any], words: str) -> None:
    found = api_surface.breaks(surface(a=old), surface(a=new), TODAY)
    assert found == [f"regtool.api.a: {words}"]


def test_a_mark_keeps_its_first_version_and_day() -> None:
    def marked_now() -> api_surface.Surface:
        return surface("0.6.0", a={"kind": "value", "deprecated": {"text": "use b"}})

    first = api_surface.merged(surface("0.5.0"), marked_now(), TODAY)
    mark = first["modules"]["regtool.api"]["a"]["deprecated"]
    assert mark == {"text": "use b", "since": "0.6.0", "date": "2030-06-01"}
    later = marked_now() | {"version": "0.8.0"}
    again = api_surface.merged(first, later, TODAY + datetime.timedelta(90))
    assert again["modules"]["regtool.api"]["a"]["deprecated"] == mark


OLD_FIELD = "(a: int = 1, b: int | None = None)"


@pytest.mark.parametrize(
    ("since", "date", "new", "words"),
    [
        ("0.3.0", "2029-01-01", "(a: int = 1)", None),
        ("0.4.0", "2029-01-01", "(a: int = 1)", "the parameter b is gone"),
        ("0.3.0", "2030-05-01", "(a: int = 1)", "the parameter b is gone"),
        ("0.3.0", "2029-01-01", "(b: int | None = None)", "the parameter a is gone"),
    ],
)
def test_a_marked_field_goes_in_two_steps(
    since: str, date: str, new: str, words: str | None
) -> None:
    mark = {"text": "leave it out", "since": since, "date": date}
    old = {"kind": "class", "called": OLD_FIELD, "deprecated_fields": {"b": mark}}
    now = {"kind": "class", "called": new}
    found = api_surface.breaks(surface(a=old), surface("0.5.0", a=now), TODAY)
    assert words is None or f"regtool.api.a: {words}" in found
    assert bool(found) is bool(words)


def test_a_mark_of_a_field_is_recorded_and_keeps_its_first_day() -> None:
    @dataclasses.dataclass
    class Marked:
        a: int = 1
        b: int | None = dataclasses.field(default=None, metadata={"deprecated": "leave it out"})

    Marked.__module__ = "regtool.losses"

    def now() -> api_surface.Surface:
        return surface("0.6.0", a=api_surface._entry(Marked))

    first = api_surface.merged(surface("0.5.0"), now(), TODAY)
    mark = {"text": "leave it out", "since": "0.6.0", "date": "2030-06-01"}
    assert first["modules"]["regtool.api"]["a"]["deprecated_fields"] == {"b": mark}
    again = api_surface.merged(first, now() | {"version": "0.8.0"}, datetime.date(2031, 1, 1))
    assert again["modules"]["regtool.api"]["a"]["deprecated_fields"] == {"b": mark}


def test_the_mark_warns_at_the_plugin_s_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/api.md promises is what typing_extensions.deprecated does."""
    from typing_extensions import deprecated

    @deprecated("regtool.api.old is deprecated since 0.5: use regtool.api.new")
    def old(a: int, b: str = "x y") -> int:
        return a

    module = types.ModuleType("regtool_old_names")
    module.old = old  # type: ignore[attr-defined]
    module.__all__ = ["old"]  # type: ignore[attr-defined]
    old.__module__ = "regtool.losses"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = api_surface._module(module)["old"]
    assert entry["called"] == "(a: int, b: str = 'x y') -> int"
    assert entry["deprecated"]["text"].startswith("regtool.api.old is deprecated")
    with pytest.warns(DeprecationWarning, match="use regtool.api.new") as caught:
        module.old(3)
    assert caught[0].filename == __file__
