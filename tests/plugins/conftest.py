"""Fake distributions on temporary paths, and the program."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_distributions import Runner, Site
from warm_cli import Ran, WarmProcess, seen


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site-packages folder at the front of ``sys.path``; its modules are forgotten."""
    made = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(made.folder))
    monkeypatch.delenv("REGTOOL_STRICT_PLUGINS", raising=False)
    monkeypatch.delenv("REGTOOL_LOAD_PLUGINS", raising=False)
    yield made
    for name in made.modules:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


@pytest.fixture
def program(warm: WarmProcess, tmp_path: Path) -> Runner:
    """Run regtool with folders that it finds plugins in: ``program(*arguments, path=[...])``.

    Further keywords are variables of its environment.
    """

    def run(*arguments: str, path: tuple[Path, ...] = (), **environment: str) -> Ran:
        return warm.run([*arguments], tmp_path, environment, before=seen(*path))

    return run
