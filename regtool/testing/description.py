"""Checks of what a plugin says about its method."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from regtool.plugins import discovery
from regtool.plugins.description import API_VERSION
from regtool.plugins.options import Options, describe_options
from regtool.prepare.preparation import Preparation
from regtool.testing.subject import Subject

HEAVY = ("torch", "numpy", "SimpleITK", "nibabel", "huggingface_hub", "diffusers", "monai")

_PROBE = """
import sys
from regtool.plugins import discovery
method = discovery.load(sys.argv[1])
discovery.resolve_import(method.options)
print("imported:", *[name for name in sys.argv[2:] if name in sys.modules])
"""


def check_description_light(subject: Subject) -> None:
    """The description and the options of an installed method import nothing heavy."""
    if not isinstance(subject.given, str):
        return
    path = os.pathsep.join(entry for entry in sys.path if entry)
    ran = subprocess.run(
        [sys.executable, "-c", _PROBE, subject.name, *HEAVY],
        env={**os.environ, "PYTHONPATH": path, "REGTOOL_STRICT_PLUGINS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"in a fresh interpreter: {_last_line(ran.stderr)}"
    imported = ran.stdout.partition("imported:")[2].split()
    assert not imported, (
        f"the description or the options import {', '.join(imported)}; import them in the modules "
        "that `model` and `recipe` name"
    )


def check_description_consistent(subject: Subject) -> None:
    """Names, dimensions, presets and weights agree with each other."""
    method = subject.method
    assert 1 <= method.api <= API_VERSION, f"api is {method.api}, this regtool has {API_VERSION}"
    assert not isinstance(subject.given, str) or method.name == subject.given, method.name
    assert method.summary and "\n" not in method.summary, "the summary must be one line"
    assert method.licence, "the licence is empty"
    assert method.recipe is None or method.presets, "a recipe needs at least one preset"
    for name, preset in method.presets.items():
        ndim = preset.get("ndim")
        assert ndim is None or ndim in method.ndim, (
            f"preset '{name}' is {ndim}-D, not of {method.ndim}"
        )
        _check_plain(preset, f"preset '{name}'")
        _check_preparation(preset.get("preparation"), ndim, f"preset '{name}'")
    names = [ref.name for ref in method.weights]
    assert len(set(names)) == len(names), f"weights share a name: {names}"
    for ref in method.weights:
        assert ref.ndim in method.ndim, f"weights '{ref.name}' are {ref.ndim}-D"
        assert re.fullmatch("[0-9a-f]{64}", ref.sha256), f"weights '{ref.name}': sha256"
        pinned = ref.hub is None or re.fullmatch("[0-9a-f]{40}", ref.revision or "")
        assert pinned, f"weights '{ref.name}': revision must be a full commit of 40 hex digits"


def check_imports_resolve(subject: Subject) -> None:
    """The import strings lead to callables."""
    for name in ("model", "options", "recipe"):
        spec = getattr(subject.method, name)
        if spec is not None:
            assert callable(discovery.resolve_import(spec, name)), f"{name}: {spec} is not callable"


def check_options_documented(subject: Subject) -> None:
    """Every option has a valid default and a description."""
    options = discovery.resolve_import(subject.method.options, "options")
    assert isinstance(options, type) and issubclass(options, Options), (
        f"{subject.method.options} must be a subclass of regtool.api.Options"
    )
    for name, field in options.model_fields.items():
        assert not field.is_required(), f"option '{name}' has no default"
        assert field.description, f"option '{name}' has no description"
    defaults = options()
    dumped = defaults.model_dump(mode="json")
    assert options(**dumped) == defaults, "the defaults do not survive JSON"
    assert len(describe_options(options)) == len(options.model_fields)


def _check_preparation(preparation: Mapping[str, Any] | None, ndim: int | None, what: str) -> None:
    if not preparation:
        return
    try:
        parsed = Preparation(**preparation)
    except ValueError as error:
        raise AssertionError(f"{what}: the preparation is not valid: {error}") from error
    assert ndim is None or parsed.ndim == ndim, f"{what}: the preparation is {parsed.ndim}-D"


def _check_plain(preset: Mapping[str, Any], what: str) -> None:
    """A preset is stored in config.json, so it must come back from JSON as it was."""

    def thaw(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: thaw(item) for key, item in value.items()}
        return [thaw(item) for item in value] if isinstance(value, (list, tuple)) else value

    plain = thaw(preset)
    try:
        same = json.loads(json.dumps(plain)) == plain
    except TypeError as error:
        raise AssertionError(f"{what} is not plain data: {error}") from error
    assert same, f"{what} changes when it is stored as JSON (are all keys texts?)"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
