"""The result of a registration, and the seconds of its parts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.spatial.grid import Matrix


@dataclass(repr=False)
class Registration:
    """The result of one registration; arrays are on the fixed grid.

    ``field`` (*S, ndim): LPS mm, components (x, y, z); ``affine``: homogeneous world matrix. The
    moving image is read at ``affine(x + field(x))``. ``inverse`` undoes ``field`` alone.
    ``outputs`` are the files written, by role; ``record`` is what the JSON record holds.
    """

    warped: NDArray[Any]
    field: NDArray[np.float32]
    affine: Matrix
    inverse: NDArray[np.float32] | None
    warped_labels: NDArray[Any] | None
    record: dict[str, Any]
    outputs: dict[str, Path] = default(default_factory=dict)

    def __repr__(self) -> str:
        """The method and the shape; the arrays are for other eyes."""
        name = self.record.get("method", {}).get("name", "?")
        return f"<Registration by {name}: warped {self.warped.shape}, field {self.field.shape}>"


class Clock:
    """Seconds spent in each part, for the record; ``stage`` hears of each as it begins."""

    def __init__(self, wall: bool = True, stage: Callable[[str], None] | None = None) -> None:
        self.stage = stage
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter() if wall else None

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        if self.stage is not None:
            self.stage(part)
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start

    def total(self) -> float:
        """Seconds since the start, or of all parts where pairs take turns."""
        if self.started is None:
            return sum(self.seconds.values())
        return time.perf_counter() - self.started
