"""Mistakes in a method's own training code are told as the plugin's, in one line with the place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import training_toy

from regtool.engine.training import TrainResult
from regtool.errors import PluginError, UsageError
from regtool.plugins import discovery
from regtool.plugins.exchange import Prediction

Run = Callable[..., TrainResult]


def _stages(**changes: Any) -> Callable[..., Any]:
    """A recipe: the toy's, its stage changed."""

    def recipe(preset: Any) -> Any:
        return tuple(dataclasses.replace(s, **changes) for s in training_toy.recipe(preset))

    return recipe


def _raises(*_: Any) -> Any:
    raise KeyError("foo")


def _step(answer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda module, pair, context: answer(module)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (_raises, "recipe of method 'toy': KeyError: 'foo' (test_method_mistakes.py, line "),
        (lambda p: None, "recipe of method 'toy' returned NoneType, not a tuple of stages"),
        (lambda p: ["x"], "recipe of method 'toy' returned str for a Stage"),
        (_stages(optimisers="x"), "optimisers of stage 'main' must be a tuple"),
        (_stages(steps="many"), "steps of stage 'main' is 'many', not a whole number"),
        (_stages(build=_raises), "method 'toy', build of stage 'main': KeyError: 'foo' (test_"),
        (_stages(step=_raises), "step of stage 'main': KeyError: 'foo' (test_method_mistakes.py"),
        (_stages(step=_step(lambda m: {})), "step of stage 'main' returned dict, not a StepOutput"),
        (_stages(step=_step(lambda m: training_toy.StepOutput(1))), "terms is int, not a dict"),
        (_stages(step=_step(lambda m: training_toy.StepOutput({"a": 1.0}))),
         "the term 'a' is float, not a scalar tensor"),
        (_stages(step=_step(lambda m: training_toy.StepOutput({"a": torch.ones(2)}))),
         "the term 'a' is (2,), not a scalar tensor"),
    ],
)  # fmt: skip
def test_a_mistake_is_the_plugin_s(
    run: Run, monkeypatch: pytest.MonkeyPatch, recipe: Any, words: str
) -> None:
    resolve = discovery.resolve_import

    def found(spec: str, what: str) -> Any:
        return recipe if what.startswith("recipe") else resolve(spec, what)

    monkeypatch.setattr(discovery, "resolve_import", found)
    with pytest.raises(PluginError) as caught:
        run(steps=1)
    assert words in str(caught.value)


def test_a_mistake_of_the_model_is_the_plugin_s(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it validates."""
    forward = training_toy.Net.forward

    def wrong(self: Any, pair: Any, options: Any, context: Any) -> Any:
        return forward(self, pair, options, context) if options is None else _raises()

    monkeypatch.setattr(training_toy.Net, "forward", wrong)
    with pytest.raises(PluginError, match="model of stage 'main': KeyError: 'foo'"):
        run(steps=1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [(torch.zeros(1), "returned Tensor, not a Prediction"),
     (Prediction(torch.zeros(1, 1, 24, 24)), r"returned a field \(1, 1, 24, 24\), due is")],
)  # fmt: skip
def test_what_the_model_returns_is_looked_at(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: Any, words: str
) -> None:
    forward = training_toy.Net.forward

    def wrong(self: Any, pair: Any, options: Any, context: Any) -> Any:
        return forward(self, pair, options, context) if options is None else answer

    monkeypatch.setattr(training_toy.Net, "forward", wrong)
    with pytest.raises(PluginError, match="model of stage 'main' " + words):
        run(steps=1)


def test_no_memory_is_nobody_s(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(training_toy.Net, "forward", full)
    with pytest.raises(MemoryError):
        run(steps=1)


def test_a_preset_is_told_whose_mistake_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"preset 'tiny'.*preparation.multiple: .*got 0"):
        run(steps=1, assignments=["preparation.multiple=0"])
    wrong = {**training_toy.PRESET, "preparation": {"sizes": [8, 8]}}
    for preset, words in ((wrong, "preparation.spacing: Field required"),
                          ({"training": {}}, "its ndim must be 2 or 3")):  # fmt: skip
        method = dataclasses.replace(training_toy.METHOD, presets={"tiny": preset})
        monkeypatch.setattr(discovery, "load", lambda name, method=method: method)
        with pytest.raises(PluginError, match=words):
            run(steps=1)
