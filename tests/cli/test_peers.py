"""``-m syn`` and ``-m greedy`` on the command line, with their tools and without."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import Program
from registration_cases import SIZE2, make_grid, write_pair

METHODS = {"greedy": ("picsl_greedy", "picsl-greedy"), "syn": ("ants", "antspyx")}

ABSENT = """
from importlib.machinery import PathFinder
found = PathFinder.find_spec
def find_spec(name, path=None, target=None, absent={"ants", "picsl_greedy"}):
    return None if name.partition(".")[0] in absent else found(name, path, target)
PathFinder.find_spec = find_spec
"""


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """A fixed and a moving image of 2-D in a folder of their own."""
    grid = make_grid("flipped", SIZE2)
    files = write_pair(tmp_path / "in", grid, grid, np.eye(3))
    return [files["fixed"], files["moving"]]


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_extra_is_one_line(regtool: Program, images, tmp_path, method):
    distribution = METHODS[method][1]
    ran = regtool("register", "-m", method, *images, before=ABSENT)
    assert ran.code == 5
    assert ran.out == ""
    assert ran.err.splitlines() == [
        f"regtool: error: method '{method}' needs {distribution}, which is not installed; "
        f"pip install 'regtool[{method}]' (or {distribution} itself)"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_they_are_listed_without_their_tools(regtool: Program):
    ran = regtool("methods", "--json", before=ABSENT).ok()
    listed = json.loads(ran.out)
    assert set(METHODS) <= {method["name"] for method in listed["methods"]}
    assert listed["broken"] == []


@pytest.mark.parametrize("method", METHODS)
def test_the_list_of_plugins_tells_what_they_need(regtool: Program, method: str):
    shown = regtool("plugins", "list", before=ABSENT).ok().out
    line = next(line for line in shown.splitlines() if line.split()[0] == method)
    needs = f"needs {METHODS[method][1]} (pip install 'regtool[{method}]')"
    assert line.endswith(f"  ok, but {needs}")
    assert next(n for n in shown.splitlines() if n.split()[0] == "rigid").endswith("  ok")


@pytest.mark.parametrize("method", METHODS)
def test_the_command_line_writes_and_says_as_for_any_method(
    regtool: Program, images, tmp_path, method
):
    module = METHODS[method][0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'regtool[{method}]'")
    ran = regtool(
        "register", "-m", method, "--set", "iterations=20,10", "--inverse", "-o", "out_",
        *images,
    ).ok()  # fmt: skip
    assert ran.out == ""
    assert all(line.startswith("regtool: ") for line in ran.err.splitlines())
    record = json.loads((tmp_path / "out_regtool.json").read_text())
    assert record["method"]["name"] == method
    assert record["options"]["iterations"] == [20, 10]
    local = record["similarity"]["local_ncc"]
    assert local["after"] > local["before"]
