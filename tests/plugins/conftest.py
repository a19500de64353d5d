"""Fake distributions on temporary paths, and the program in a subprocess."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_distributions import Runner, Site


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
def program() -> Runner:
    """Run regtool in a fresh interpreter: ``program(*arguments, path=[...], **environment)``."""

    def run(
        *arguments: str, path: tuple[Path, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("REGTOOL_")}
        places = [*map(str, path), *filter(None, sys.path)]
        clean |= {"PYTHONPATH": os.pathsep.join(places), **environment}
        return subprocess.run(
            [sys.executable, "-m", "regtool.cli.app", *arguments],
            env=clean,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
