"""What a report of one registration is drawn from: plain arrays on the fixed grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.spatial.grid import Grid, Matrix


@dataclass(frozen=True)
class ExtraView:
    """A method's additional result: (*grid.shape), or (*grid.shape, ndim) for a field in mm."""

    values: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.values.shape[: self.grid.ndim] != self.grid.shape:
            raise ValueError(f"array {self.values.shape} does not fit grid {self.grid.shape}")


@dataclass(frozen=True)
class PairView:
    """A registration as a report shows it; images, field and label maps lie on ``grid``.

    ``moving`` is the moving image as it lies in the world, before any alignment; ``warped`` is read
    at ``affine(x + field(x))``. ``field`` (*S, ndim) is in LPS mm, components (x, y, z); ``affine``
    a homogeneous world matrix. Label maps and ``mask`` (where folds are counted) may be absent.
    ``extras`` are on grids of their own. ``record`` is the content of the JSON record; nothing in
    it is trusted. Raises ValueError when shapes disagree.
    """

    grid: Grid
    fixed: NDArray[Any]
    moving: NDArray[Any]
    warped: NDArray[Any]
    field: NDArray[np.float32]
    affine: Matrix
    record: Mapping[str, Any]
    fixed_labels: NDArray[Any] | None = None
    moving_labels: NDArray[Any] | None = None
    warped_labels: NDArray[Any] | None = None
    mask: NDArray[Any] | None = None
    extras: Mapping[str, ExtraView] = default(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.grid.shape
        if self.field.shape != (*shape, self.grid.ndim):
            raise ValueError(f"field {self.field.shape} does not fit grid {shape}")
        names = ("fixed", "moving", "warped", "fixed_labels", "moving_labels", "warped_labels",
                 "mask")  # fmt: skip
        for name in names:
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise ValueError(f"{name} {values.shape} does not fit grid {shape}")
