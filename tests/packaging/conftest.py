"""The wheel and the sdist of this tree, built once, with the weights' values cut short."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tree_cases import ROOT, build, copy_tree, tracked


@pytest.fixture(scope="session", autouse=True)
def buildable() -> None:
    """Skip where nothing can be built."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("the build backend hatchling is absent: pip install hatchling")
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: nobody knows which files belong to it")


@pytest.fixture(scope="session")
def names() -> list[str]:
    """The files of the repository."""
    return tracked()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> Path:
    """A copy of the tree."""
    return copy_tree(tmp_path_factory.mktemp("source"), names)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """Its wheel."""
    return build(source, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """Its sdist."""
    return build(source, tmp_path_factory.mktemp("sdist"), "sdist")
