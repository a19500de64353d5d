"""What the tests of the command line share: a registered pair, and quick registrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from registration_cases import make_grid, transform, write_pair
from warm_cli import Ran

from regtool.spatial.grid import Grid

Program = Callable[..., Ran]

FAST = ("-m", "optimise", "--set", "iterations=30,20")
"""A registration that takes a second or two and is good enough to be measured."""

QUICK = ("-m", "optimise", "--set", "iterations=3,2")
"""A registration that takes no time and is no good."""

RECORD = "out_regtool.json"
"""The record of a registration with ``-o out_``."""


@dataclass(frozen=True)
class Case:
    """A pair of images, its true transform, and the prefix of its registration."""

    files: dict[str, Path]
    prefix: str
    fixed: Grid
    moving: Grid
    matrix: np.ndarray

    def output(self, name: str) -> Path:
        """One output file."""
        return Path(self.prefix + name)

    @property
    def record(self) -> Path:
        """The record."""
        return self.output("regtool.json")


def small_pair(folder: Path) -> dict[str, Path]:
    """A 2-D pair of 32 by 28 pixels in ``folder``, for tests of everything but accuracy."""
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    return write_pair(folder, grid, grid, transform(2, (1.0, -1.0)), 1.5)


def outputs(folder: Path, prefix: str = "out_") -> list[str]:
    """What a run left in a folder: final files, and temporary ones."""
    return sorted(p.name for p in folder.iterdir() if p.name.startswith((prefix, ".regtool")))


def one_line(err: str) -> None:
    """Fail unless an error was told in one line."""
    assert err.startswith("regtool: error: ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def write_table(path: Path, rows: list[tuple[str, dict[str, Path]]], *columns: str) -> Path:
    """A table with a name and the given columns besides the images."""
    names = ("fixed", "moving", *columns)
    lines = [",".join(("name", *names))]
    lines += [",".join((name, *(str(files[c]) for c in names))) for name, files in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
