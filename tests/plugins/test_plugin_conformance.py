"""The conformance checks pass a sound method and catch each fault by the check meant for it."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from regtool import testing
from regtool.api import Method, WeightsRef
from regtool.testing.direction import _agrees, check_direction
from regtool.testing.pairs import SHIFTS
from regtool.testing.subject import Subject

PREPARED = {2: {"spacing": (None, None), "size": (None, None)}}


def faulty(fault: str = "", trained: bool = False, **changes: Any) -> Method:
    """A method in two dimensions with one fault."""
    facts: dict[str, Any] = {
        "name": "faulty", "summary": "One fault.", "paper": None, "licence": "MIT", "ndim": (2,),
        "model": "faulty_method:build_bend" if trained else "faulty_method:build",
        "options": "faulty_method:GoodOptions",
        "recipe": "faulty_method:recipe" if trained else None,
        "presets": {"tiny": {"ndim": 2, "network": {"fault": fault}, "preparation": PREPARED[2]}},
    }  # fmt: skip
    return Method(**(facts | changes))


def failing(method: Method, **settings: Any) -> set[str]:
    """Names of the checks that fail, each with a message of its own."""
    subject, names = Subject(method, **settings), set()
    for check in testing.METHOD_CHECKS:
        try:
            check(subject)
        except Exception as error:  # as check_method does
            assert str(error), check
            names.add(check.__name__.removeprefix("check_"))
    return names


@pytest.mark.parametrize("fault", ["", "velocity"])
def test_a_sound_method_passes(fault: str) -> None:
    testing.check_method(faulty(fault))


def test_a_sound_trained_method_passes() -> None:
    testing.check_method(faulty(trained=True))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("fault", "right"), [("", True), ("sign", False), ("axes", False)])
def test_the_direction_is_checked_in_both_dimensions(ndim: int, fault: str, right: bool) -> None:
    preset = {"ndim": ndim, "network": {"fault": fault}}
    subject = Subject(faulty(ndim=(ndim,), presets={"tiny": preset}))
    if right:
        check_direction(subject)
        return
    with pytest.raises(AssertionError, match="check sign, component order"):
        check_direction(subject)


def shipped(folder: Path, shift: tuple[float, float], fault: str = "") -> Method:
    """A method with a recipe, and weights in REGTOOL_WEIGHTS_DIR that answer with ``shift``."""
    place = folder / "hearts"
    place.mkdir()
    tensors = {"shift": torch.tensor(shift), "idle": torch.zeros(1)}
    safetensors.torch.save_file(tensors, place / "model.safetensors")
    config = {"schema": 1, "method": "faulty", "api": 1, "ndim": 2, "network": {"fault": fault}}
    config |= {"preparation": PREPARED[2], "training": {}}
    (place / "config.json").write_text(json.dumps(config))
    pin = hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
    return faulty(
        fault, trained=True, weights=(WeightsRef("hearts", 2, "heart", "MR", "MIT", pin),)
    )


@pytest.mark.parametrize(
    ("shift", "fault", "words"),
    [
        ((3.0, -5.0), "warps back", None),  # the weights answer; nothing is trained
        ((-0.11, -0.53), "", None),  # they hardly move: a fresh network is trained
        ((-0.11, -0.53), "warps back", "preset 'tiny', trained on the pair itself, 2-D"),
        ((-3.0, 5.0), "", r"weights 'hearts' \(.*hearts\), 2-D: .*\(-3.00, 5.00\)"),
        ((-5.0, 3.0), "", "weights 'hearts'"),
    ],
)
def test_weights_that_hardly_move_are_not_blamed_for_their_direction(
    shift: tuple[float, float],
    fault: str,
    words: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", str(tmp_path))
    subject = Subject(shipped(tmp_path, shift, fault))
    if words is None:
        check_direction(subject)
        return
    with pytest.raises(AssertionError, match=words):
        check_direction(subject)


def test_weak_weights_fail_where_they_must_show_the_direction_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(AssertionError, match="weights 'hearts'"):
        check_direction(Subject(shipped(tmp_path, (-0.11, -0.53))), retrain=False)


@pytest.mark.parametrize("ndim", [2, 3])
def test_only_the_right_order_and_signs_agree(ndim: int) -> None:
    shift = SHIFTS[ndim]
    for order in itertools.permutations(range(ndim)):
        for signs in itertools.product((1, -1), repeat=ndim):
            other = tuple(sign * shift[axis] for axis, sign in zip(order, signs, strict=True))
            assert _agrees(torch.tensor(other).float(), shift) == (other == shift)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("normalised", "direction"),
        ("channels last", "prediction"),
        ("double", "prediction"),
        ("empty", "prediction"),
        ("tuple", "prediction"),
        ("divides by zero", "degenerate_pairs"),
        ("global random", "seed"),
        ("undeclared samples", "seed"),
        ("default dtype", "default_dtype"),
        ("hidden state", "state_dict"),
        ("in place", "no_grad"),
        ("gradient", "no_grad"),
        ("counts", "no_grad"),
        ("builds at random", "presets_build"),
    ],
)
def test_a_fault_of_the_network_is_caught(fault: str, check: str) -> None:
    subject = Subject(faulty(fault))
    named = next(c for c in testing.METHOD_CHECKS if c.__name__ == f"check_{check}")
    with pytest.raises(AssertionError):
        named(subject)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("vector", "losses"),
        ("nan", "losses"),
        ("detached", "losses"),
        ("zero", "losses"),
        ("no terms", "losses"),
        ("mapping", "losses"),
        ("idle", "losses"),
        ("owns nothing", "losses"),
        ("freezes nothing", "losses"),
        ("no optimiser", "recipe"),
        ("same name", "recipe"),
        ("no stage", "recipe"),
        ("twice", "recipe"),
        ("one", "recipe"),
        ("warps back", "direction"),
    ],
)
def test_a_fault_of_the_recipe_is_caught(fault: str, check: str) -> None:
    assert check in failing(faulty(fault, trained=True), steps=30)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"options": "faulty_method:SilentOptions"}, "options_documented"),
        ({"options": "faulty_method:RequiredOptions"}, "options_documented"),
        ({"options": "faulty_method:PlainOptions"}, "options_documented"),
        ({"model": "faulty_method:build_nothing"}, "presets_build"),
        ({"summary": "two\nlines"}, "description_consistent"),
        ({"licence": ""}, "description_consistent"),
        ({"recipe": "faulty_method:recipe", "presets": {}}, "description_consistent"),
        (
            {"presets": {"tiny": {"ndim": 3, "network": {"fault": ""}}}},
            "description_consistent",
        ),
        (
            {"presets": {"tiny": {"ndim": 2, "network": {"fault": "", "odd": {1: 2}}}}},
            "description_consistent",
        ),
        (
            {"presets": {"tiny": {"ndim": 2, "network": {"fault": ""}, "training": {"x": {1}}}}},
            "description_consistent",
        ),
        (
            {"presets": {"tiny": {"network": {"fault": ""}, "preparation": {"wrong": 1}}}},
            "description_consistent",
        ),
        (
            {"weights": (WeightsRef("w", 2, "heart", "MR", "MIT", "abc"),)},
            "description_consistent",
        ),
        (
            {"weights": (WeightsRef("w", 2, "heart", "MR", "MIT", "0" * 64, "a/b", "main"),)},
            "description_consistent",
        ),
    ],
)
def test_a_fault_of_the_description_is_caught(changes: dict[str, Any], check: str) -> None:
    assert check in failing(faulty(**changes))


def test_a_missing_callable_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"- check_imports_resolve: .*nothing_here"):
        testing.check_method(faulty(model="faulty_method:nothing_here"))


def test_a_preset_can_be_chosen() -> None:
    presets = {
        "good": {"ndim": 2, "network": {"fault": ""}},
        "bad": {"ndim": 2, "network": {"fault": "sign"}},
    }
    testing.check_method(faulty(presets=presets), preset="good")
    with pytest.raises(AssertionError, match="direction"):
        testing.check_method(faulty(presets=presets), preset="bad")
    with pytest.raises(AssertionError, match="no preset 'ugly'"):
        testing.check_method(faulty(presets=presets), preset="ugly")


@testing.parametrize_checks([faulty()])
def test_the_checks_can_be_single_tests(subject: Subject, check: Any) -> None:
    check(subject)
