"""An image in memory together with its grid and what its header said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regtool.spatial.grid import Grid

Kind = Literal["scalar", "rgb", "series", "vector"]


@dataclass(frozen=True)
class HeaderFacts:
    """What the file's header said, for the record and for writing files of the same form.

    ``stored_shape`` is the shape on disk (X, Y, ...), empty for images made in memory. ``agree``
    says whether sform and qform are the same matrix (None unless both are set). ``authority`` is
    the one that ITK, and so regtool, used. ``units`` is the spatial unit on disk; grids are
    always in mm. ``nonfinite`` counts NaN and infinite values, which are read as 0. ``scaled``
    tells that slope and intercept were applied. ``time_step`` is the spacing of a series, in
    seconds where the file tells its unit.
    """

    format: str = "memory"
    stored_shape: tuple[int, ...] = ()
    sform_code: int = 0
    qform_code: int = 0
    agree: bool | None = None
    authority: Literal["sform", "qform", "none"] = "none"
    units: str = "mm"
    intent: int = 0
    nonfinite: int = 0
    scaled: bool = False
    time_step: float = 1.0


@dataclass(frozen=True)
class Volume:
    """An image: values on a grid.

    ``array``: (*grid.shape) for a scalar image, (*grid.shape, C) for ``rgb`` and ``vector``,
    (T, *grid.shape) for a ``series``. ``dtype`` is the type stored in the file, before slope and
    intercept. ``warnings`` are sentences for the user, collected while reading.
    """

    array: NDArray[Any]
    grid: Grid
    kind: Kind = "scalar"
    dtype: np.dtype[Any] | None = None
    path: Path | None = None
    header: HeaderFacts = field(default_factory=HeaderFacts)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype is None:
            object.__setattr__(self, "dtype", self.array.dtype)
        if self.spatial_shape != self.grid.shape:
            raise ValueError(f"array {self.array.shape} does not fit grid {self.grid.shape}")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The array's shape without the axis of components or frames."""
        if self.kind == "scalar":
            return self.array.shape
        return self.array.shape[1:] if self.kind == "series" else self.array.shape[:-1]

    @property
    def ndim(self) -> int:
        """Number of spatial dimensions, 2 or 3."""
        return self.grid.ndim

    @property
    def is_one_slice(self) -> bool:
        """Whether this is a 3-D image of one slice, (X, Y, 1) on disk."""
        return self.grid.ndim == 3 and self.grid.size[2] == 1

    @property
    def frames(self) -> int:
        """Number of frames; 1 unless this is a series."""
        return self.array.shape[0] if self.kind == "series" else 1

    @property
    def name(self) -> str:
        """What to call this image in messages."""
        return str(self.path) if self.path is not None else "image"

    def frame(self, index: int) -> Volume:
        """One frame of a series as a scalar image; raises IndexError beyond the last."""
        if self.kind != "series":
            if index != 0:
                raise IndexError(f"{self.name} has one frame")
            return self
        if not 0 <= index < self.frames:
            raise IndexError(f"{self.name} has frames 0 to {self.frames - 1}, not {index}")
        return replace(self, array=self.array[index], kind="scalar")

    def slice_last(self) -> Volume:
        """The same scalar samples with the axis of a volume's only slice as the last index axis."""
        grid = self.grid
        if grid.ndim == 2 or grid.size[2] == 1 or 1 not in grid.size:
            return self
        order = sorted(range(3), key=lambda axis: grid.size[axis] == 1)
        turned = Grid(
            tuple(grid.size[a] for a in order), tuple(grid.spacing[a] for a in order),
            tuple(grid.direction_matrix[:, order].ravel().tolist()), grid.origin,
        )  # fmt: skip
        array = np.transpose(self.array, [2 - a for a in reversed(order)])
        return replace(self, array=array, grid=turned)

    def with_array(self, array: NDArray[Any]) -> Volume:
        """The same image with other values of the same layout."""
        return replace(self, array=array)
