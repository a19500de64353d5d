"""The methods that come with regtool pass the checks that strangers run."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regtool.plugins import discovery
from regtool.testing import METHOD_CHECKS, Subject
from regtool.testing.direction import check_direction
from regtool.testing.network import check_presets_build

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
NAMES = sorted(PROJECT["project"]["entry-points"]["regtool.methods"])
SHAPES = {2: (32, 48), 3: (16, 32, 48)}
BRIEF: dict[str, dict[str, Any]] = {
    "diffusereg": {"steps": 2},
    "greedy": {"iterations": (3, 2)},
    "optimise": {"iterations": (3, 2, 1)},
    "syn": {"iterations": (3, 2), "metric": "mattes"},
}
"""Options with which a method answers something, fast."""
ENOUGH: dict[str, dict[str, Any]] = {
    "diffusemorph": {"passes": 4},
    "greedy": {"iterations": (100, 50, 10)},
    "optimise": {"iterations": (50, 30, 10)},
    "syn": {"iterations": (60, 40, 20), "metric": "mattes"},
    "voxelmorph": {"passes": 8},
    "voxelmorph-diff": {"passes": 8},
}
"""Options with which a method finds a shift of a few voxels."""
HEARTS_ONLY = {"diffusemorph": 3, "fsdiffreg": 3}
"""Weights of this dimension know hearts and do not follow a shifted ellipsoid (their card says so);
the direction of what such a network learns is tested in tests/methods."""

FROM_SCRATCH = {"diffusereg", "vtn"}
"""Their only weights know hearts, too; what they learn on the very pair is looked at instead. That
takes half a minute with networks as they ship; tests/methods does it with narrow ones."""

TOOLS = {"greedy": "picsl_greedy", "syn": "ants"}
"""Methods whose work is done by a package of an optional extra, and its module."""

LARGE = {"diffusemorph": ("paper-face", "paper-slices"), "diffusereg": ("paper",),
         "fsdiffreg": ("paper-slices",)}  # fmt: skip
"""Presets whose values take seconds to draw, twice; those of the others tell whether the seed
decides."""

SUBJECTS = {name: Subject(name, shapes=SHAPES, options=BRIEF.get(name, {})) for name in NAMES}


@pytest.fixture(autouse=True)
def tool(request: pytest.FixtureRequest) -> None:
    """Skip a method whose tool is not installed."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    if name in TOOLS and importlib.util.find_spec(TOOLS[name]) is None:
        pytest.skip(f"{TOOLS[name]} is not installed: pip install 'regtool[{name}]'")


@pytest.mark.parametrize("check", METHOD_CHECKS[:-1], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_method_conforms(name: str, check: Callable[[Subject], None]) -> None:
    if check is check_presets_build and name in LARGE:
        large_presets_build(SUBJECTS[name], LARGE[name])
    else:
        check(SUBJECTS[name])


def large_presets_build(subject: Subject, large: tuple[str, ...]) -> None:
    """The check of the other presets; the large ones have twice the same parameters."""
    others = {k: p for k, p in subject.method.presets.items() if k not in large}
    smaller = Subject(replace(subject.method, presets=others))
    check_presets_build(smaller)
    subject.sizes.update(smaller.sizes)
    for preset in large:
        with torch.device("meta"):
            modules = [subject.build(subject.presets[preset]) for _ in range(2)]
        subject.note_size(preset, modules[0])
        first, second = (module.state_dict() for module in modules)
        assert first and list(first) == list(second)
        assert all(first[key].shape == second[key].shape for key in first)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), [(n, p) for n in LARGE for p in LARGE[n]])
def test_a_large_preset_builds_by_its_seed(name: str, preset: str) -> None:
    check_presets_build(Subject(name, preset=preset))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in FROM_SCRATCH else n for n in NAMES],
)
def test_a_built_in_method_points_the_right_way(name: str) -> None:
    assert METHOD_CHECKS[-1] is check_direction
    method = discovery.load(name)
    others = {k: p for k, p in method.presets.items() if p["ndim"] != HEARTS_ONLY.get(name)}
    weights = () if name in FROM_SCRATCH else method.weights
    changed = replace(method, presets=others, weights=weights)
    subject = Subject(changed, shapes=SHAPES, options=ENOUGH.get(name, {}))
    check_direction(
        subject, retrain=False
    )  # weights that ship with regtool must show it themselves


def test_metadata_and_project_agree() -> None:
    ours = {e.name: e.value for e in discovery.available() if e.distribution == "regtool"}
    assert ours == PROJECT["project"]["entry-points"]["regtool.methods"]
