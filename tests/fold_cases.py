"""Folded fields, and determinants computed from a field file with NumPy alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from registration_cases import make_grid

from regtool.spatial.grid import Grid


def jacobians(field: NDArray[Any], grid: Grid) -> dict[str, NDArray[np.float64]]:
    """All determinants of a field in LPS mm: ``central`` (*S), and ``corner`` (2**n, cells).

    Derivatives are taken by index and carried to the world by the inverse of direction * spacing.
    Central ones are one-sided on the outermost layer; an axis of one voxel has no derivative.
    """
    n, shape = grid.ndim, grid.shape
    u = field.astype(np.float64)
    inverse = np.linalg.inv(grid.direction_matrix * np.asarray(grid.spacing))
    by_index = np.zeros((*shape, n, n))
    for axis, size in enumerate(shape):
        if size > 1:
            by_index[..., :, n - 1 - axis] = np.gradient(u, axis=axis)
    central = np.linalg.det(np.eye(n) + by_index @ inverse)
    corners = []
    for corner in itertools.product((0, 1), repeat=n):
        columns = []
        for axis in range(n):
            near = [_part(side, size) for side, size in zip(corner, shape, strict=True)]
            far = list(near)
            near[axis], far[axis] = _part(0, shape[axis]), _part(1, shape[axis])
            columns.append(u[tuple(far)] - u[tuple(near)])
        gradient = np.stack(columns[::-1], -1)
        for axis, size in enumerate(shape):
            if size == 1:
                gradient[..., n - 1 - axis] = 0
        corners.append(np.linalg.det(np.eye(n) + gradient @ inverse).ravel())
    return {"central": central, "corner": np.stack(corners)}


def _part(side: int, size: int) -> slice:
    """The voxels of an axis that are the near (0) or far (1) ends of its edges."""
    return slice(None) if size == 1 else slice(side, size - 1 + side)


def smooth_noise(shape: tuple[int, ...], voxels: float, width: float, seed: int) -> NDArray[Any]:
    """Noise (*shape, ndim) of standard deviation ``voxels``, smoothed over ``width`` voxels."""
    noise = np.random.default_rng(seed).standard_normal((*shape, len(shape)))
    for axis, size in enumerate(shape):
        apart = np.arange(size)[:, None] - np.arange(size)
        kernel = np.exp(-((apart / width) ** 2) / 2) if width > 0 else np.eye(size)
        noise = np.moveaxis(np.tensordot(kernel, noise, (1, axis)), 0, axis)
    return voxels * noise / noise.std()


def world_field(voxels: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """A displacement (*S, ndim), component i along tensor axis i in voxels, as LPS mm."""
    linear = grid.index_to_world[:-1, :-1]
    return (voxels[..., ::-1] @ linear.T).astype(np.float32)


def noise_field(
    shape: tuple[int, ...], direction: str, voxels: float, width: float, seed: int
) -> tuple[NDArray[np.float32], Grid]:
    """A field file's values and an anisotropic grid of a named direction."""
    spacing = (1.3, 0.8, 6.0)[: len(shape)]
    grid = make_grid(direction, tuple(reversed(shape)), spacing)
    return world_field(smooth_noise(shape, voxels, width, seed), grid), grid
