"""Writing a pin into the Python source of a plugin's description."""

from __future__ import annotations

import ast

import pytest

from regtool.weights.publish import with_pin

PIN = {"hub": "lab/a", "revision": "1" * 40, "sha256": "2" * 64}


def references(source: str) -> dict[str, dict[str, object]]:
    fields = ("name", "ndim", "anatomy", "modality", "licence", "sha256", "hub", "revision")
    found = {}
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            values = dict(zip(fields, call.args, strict=False))
            values |= {k.arg: k.value for k in call.keywords}  # type: ignore[misc]
            plain = {k: ast.literal_eval(v) for k, v in values.items()}
            found[str(plain["name"])] = plain
    return found


@pytest.mark.parametrize(
    "source",
    [
        'x = WeightsRef(name="a", ndim=2, sha256="old")',
        'x = WeightsRef(name="a", ndim=2, sha256="old", hub=None, revision=None)',
        'x = WeightsRef("a", 2, "brain", "MR", "CC0", "old")',
        'x = WeightsRef("a", 2, "brain", "MR", "CC0", "old", "b/c", "main")',
        '# größer ü\nx = api.WeightsRef(\n    sha256="old",  # a note\n    name="a",\n)',
        'x = (WeightsRef(name="b", sha256="3"), WeightsRef(name="a", hub="é/é", sha256="4",),)',
    ],
)
def test_only_the_named_reference_changes(source: str) -> None:
    pinned = with_pin(source, "a", PIN)
    assert pinned is not None
    before, after = references(source), references(pinned)
    assert after["a"] == before.pop("a") | PIN
    assert {name: after[name] for name in before} == before
    assert with_pin(pinned, "a", PIN) == pinned


def test_nothing_to_change() -> None:
    assert with_pin('x = WeightsRef(name="b", sha256="3")', "a", PIN) is None
    assert with_pin("x = WeightsRef(name=NAME)", "a", PIN) is None
