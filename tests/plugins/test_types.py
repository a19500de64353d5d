"""The public interface passes mypy --strict, and so do plugins that are written with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from regtool.plugins.skeleton import create

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "tests" / "third_party" / "regtool_example" / "regtool_example"

MISUSED = """
from pathlib import Path

from regtool.api import Options, PairCase, Reader, no_such_name

class Settings(Options):
    pass

def read(place: str, settings: Settings) -> list[PairCase]:
    return []

READER = Reader(name="mine", summary="", read=read, settings=Settings)
"""


def strict(folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy --strict with the repository's settings of everything else."""
    pytest.importorskip("mypy", reason="mypy is absent: pip install mypy")
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"),
         "--config-file", str(ROOT / "pyproject.toml"), *map(str, paths)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_interface_and_plugins_of_others_pass(tmp_path: Path) -> None:
    fresh = create("fresh-net", tmp_path) / "regtool_fresh_net"
    done = strict(tmp_path, ROOT / "regtool" / "api", EXAMPLE, fresh)
    assert done.returncode == 0, done.stdout
    misused = tmp_path / "misused.py"
    misused.write_text(MISUSED, encoding="utf-8")
    done = strict(tmp_path, misused)
    assert done.returncode == 1
    assert 'no attribute "no_such_name"' in done.stdout
    assert 'Argument "read" to "Reader" has incompatible type' in done.stdout
