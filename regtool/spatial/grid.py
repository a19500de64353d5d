"""The grid of an image in ITK's terms: size, spacing, direction, origin (LPS millimetres)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Where the samples of an image lie in the world.

    ``size``, ``spacing`` (mm) and ``origin`` (mm, LPS) are in ITK's order (x, y, z); ``direction``
    is row-major, ndim * ndim values: ``world = origin + direction @ diag(spacing) @ index``.
    Arrays and tensors have the reverse axis order: ``shape`` is (z, y, x) or (y, x).
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    origin: tuple[float, ...]

    def __post_init__(self) -> None:
        n = len(self.size)
        if not (len(self.spacing) == len(self.origin) == n and len(self.direction) == n * n):
            raise ValueError("size, spacing, direction and origin disagree in dimension")

    @property
    def ndim(self) -> int:
        """Number of spatial dimensions, 2 or 3."""
        return len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Array shape: (z, y, x) or (y, x)."""
        return tuple(reversed(self.size))

    @property
    def direction_matrix(self) -> Matrix:
        """Direction cosines, (ndim, ndim): column i is the world direction of index axis i."""
        return np.asarray(self.direction, dtype=np.float64).reshape(self.ndim, self.ndim)

    @property
    def index_to_world(self) -> Matrix:
        """Homogeneous (ndim+1, ndim+1): ITK index (x, y, z) to LPS mm."""
        matrix = np.eye(self.ndim + 1)
        matrix[:-1, :-1] = self.direction_matrix * np.asarray(self.spacing)
        matrix[:-1, -1] = self.origin
        return matrix

    @property
    def world_to_index(self) -> Matrix:
        """Homogeneous (ndim+1, ndim+1): LPS mm to ITK index (x, y, z)."""
        return np.asarray(np.linalg.inv(self.index_to_world), dtype=np.float64)

    @property
    def extent(self) -> tuple[float, ...]:
        """Edge lengths in mm, voxel edges included, (x, y, z)."""
        return tuple(s * n for s, n in zip(self.spacing, self.size, strict=True))

    @property
    def centre(self) -> Matrix:
        """World position of the middle of the grid, (ndim,) in LPS mm."""
        middle = (np.asarray(self.size) - 1) / 2
        return self.index_to_world[:-1, :-1] @ middle + np.asarray(self.origin)

    def corners(self) -> Matrix:
        """World positions of the corner voxels' centres, (2**ndim, ndim) in LPS mm."""
        ends = np.stack(np.meshgrid(*[(0, n - 1) for n in self.size], indexing="ij"), -1)
        index = ends.reshape(-1, self.ndim)
        return index @ self.index_to_world[:-1, :-1].T + np.asarray(self.origin)

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have equal size and corners within ``tolerance`` voxels.

        Headers round to float32, so exact comparison of origins fails on oblique images.
        """
        if self.size != other.size:
            return False
        apart = np.abs((self.corners() - other.corners()) @ self.direction_matrix)
        return bool((apart / np.asarray(self.spacing)).max() <= tolerance)


def centroid(weights: NDArray[Any], grid: Grid) -> Matrix | None:
    """Mean position of weights (*grid.shape), (ndim,) in LPS mm; None unless their sum is > 0."""
    total = float(weights.sum(dtype=np.float64))
    if not total > 0:
        return None
    index = []
    for axis in reversed(range(weights.ndim)):
        others = tuple(a for a in range(weights.ndim) if a != axis)
        profile = weights.sum(axis=others, dtype=np.float64)
        index.append(float(profile @ np.arange(profile.size)) / total)
    world = grid.index_to_world
    return world[:-1, :-1] @ np.asarray(index) + world[:-1, -1]
