"""What the tests of syn and greedy share: pairs on files, and fields as the tools write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from registration_cases import make_grid, read_array, write_pair

from regtool.data.phantoms import make
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid

BODY = 150.0
"""Grey value inside the object; outside it nothing tells a tool where to go."""


@dataclass(frozen=True)
class Files:
    """A fixed and a moving image of one grid, on disk."""

    folder: Path
    grid: Grid
    fixed: str
    moving: str

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Where the fixed image shows the object."""
        return read_array(Path(self.fixed)) > BODY

    def array(self, name: str) -> NDArray[Any]:
        """A file that a tool wrote into the folder."""
        return read_array(self.folder / name)


def files(folder: Path, direction: str, ndim: int) -> Files:
    """Write a pair that a smooth deformation of 4 mm relates, unequal spacings."""
    grid = make_grid(direction, size=(32, 40, 14) if ndim == 3 else (48, 40))
    made = write_pair(folder, grid, grid, np.eye(ndim + 1), 4.0)
    return Files(folder, grid, str(made["fixed"]), str(made["moving"]))


def apart(a: NDArray[Any], b: NDArray[Any], where: NDArray[np.bool_]) -> float:
    """Mean distance in mm of two fields (*S, ndim)."""
    return float(np.linalg.norm(a - b, axis=-1)[where].mean())


def size(field: NDArray[Any], where: NDArray[np.bool_]) -> float:
    """Mean length in mm of a field."""
    return apart(field, np.zeros_like(field), where)


def heart(kind: str, seed: int = 1) -> dict[str, Volume]:
    """A generated heart: fixed, moving and their labels as keywords of ``regtool.register``."""
    phantom = make(kind, seed=seed, size=80 if kind == "heart2d" else 56)
    names = ("fixed", "moving", "fixed_labels", "moving_labels")
    return {name: Volume(getattr(phantom, name), phantom.grid) for name in names}


def gain(record: dict[str, Any]) -> float:
    """How much the mean Dice rose."""
    return record["dice"]["after"]["mean"] - record["dice"]["before"]["mean"]
