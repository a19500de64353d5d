"""Between a network's displacement and the field in LPS millimetres: the only place that converts.

With net index x, fixed index i and matrices ``N`` and ``F`` from index to world, a displacement d
of the network moves the world point ``N x`` to ``N (x + d)``; as vectors ``u = N[:-1, :-1] d``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regtool.spatial.grid import Grid, Matrix
from regtool.spatial.warp import sample

_SLAB_VOXELS = 1 << 20


def tensor_order(matrix: Matrix) -> Matrix:
    """Reorder a homogeneous matrix between ITK's axis order (x, y, z) and the tensor's (z, y, x).

    The operation is its own inverse.
    """
    order = [*range(matrix.shape[0] - 2, -1, -1), matrix.shape[0] - 1]
    return matrix[np.ix_(order, order)]


def index_map(source: Grid, target: Grid) -> Matrix:
    """Homogeneous matrix from tensor indices of ``source`` to tensor indices of ``target``."""
    return tensor_order(target.world_to_index @ source.index_to_world)


def to_world_field(
    displacement: Tensor, network: Grid, fixed: Grid, taper: int | None = None
) -> NDArray[np.float32]:
    """Turn a displacement on the network's grid into the field file's values on the fixed grid.

    ``displacement`` (ndim, *network.shape) in network voxels. Returns (*fixed.shape, ndim), LPS mm,
    component order (x, y, z), float32. Outside the network's grid the edge value fades to zero
    over ``taper`` network voxels (smoothly, so nothing jumps), or holds when ``taper`` is None.
    """
    vectors = linear_part(network).to(displacement) @ displacement.flatten(1)
    world = vectors.reshape(displacement.shape)[None]
    out = np.empty((*fixed.shape, fixed.ndim), dtype=np.float32)
    for start, points in _slabs(fixed, index_map(fixed, network), displacement):
        values = sample(world, points[None])[0]
        if taper is not None:
            values = values * _fade(points, network.shape, taper)
        stop = start + points.shape[1]
        out[start:stop] = values.movedim(0, -1).cpu().numpy()
    return out


def to_network_displacement(
    field: NDArray[np.floating] | Tensor, fixed: Grid, network: Grid
) -> Tensor:
    """Turn a field in LPS mm on the fixed grid into a displacement on the network's grid.

    ``field`` (*fixed.shape, ndim), components (x, y, z). Returns (ndim, *network.shape) float32 in
    network voxels; outside the fixed grid the edge value holds.
    """
    world = torch.as_tensor(np.asarray(field, dtype=np.float32)).movedim(-1, 0)[None]
    back = torch.linalg.inv(linear_part(network))
    out = torch.empty((network.ndim, *network.shape), dtype=torch.float32)
    for start, points in _slabs(network, index_map(network, fixed), world):
        values = sample(world, points[None])[0]
        voxels = back.to(values) @ values.flatten(1)
        out[:, start : start + points.shape[1]] = voxels.reshape(values.shape)
    return out


def grid_points(grid: Grid) -> Matrix:
    """World positions of all voxels, (N, ndim) in LPS mm, in the order of the flattened array."""
    axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, grid.ndim)[:, ::-1]
    return index @ grid.index_to_world[:-1, :-1].T + np.asarray(grid.origin)


def points_to_displacement(points: Matrix, network: Grid) -> Tensor:
    """The displacement that moves each voxel of a grid to a world point.

    ``points`` (N, ndim), LPS mm, in the order of ``grid_points``. Returns (ndim, *network.shape)
    float32 in voxels of ``network``.
    """
    back = network.world_to_index
    moved = (points - grid_points(network)) @ back[:-1, :-1].T
    voxels = np.ascontiguousarray(moved[:, ::-1].T, dtype=np.float32)
    return torch.from_numpy(voxels.reshape(network.ndim, *network.shape))


def affine_to_world(matrix: Matrix, network: Grid) -> Matrix:
    """Turn an affine in network voxels (tensor axis order) into one in LPS mm."""
    return network.index_to_world @ tensor_order(matrix) @ network.world_to_index


def axis_directions(grid: Grid) -> tuple[tuple[float, ...], ...]:
    """Unit vectors of the tensor axes (z, y, x) or (y, x) in the world (LPS, x y z)."""
    columns = np.asarray(grid.direction_matrix, dtype=np.float64).T[::-1]
    return tuple(tuple(float(v) for v in column) for column in columns)


def linear_part(grid: Grid) -> Tensor:
    """(ndim, ndim): tensor-ordered voxels to LPS mm (x, y, z)."""
    return torch.from_numpy(np.ascontiguousarray(grid.index_to_world[:-1, :-1][:, ::-1]))


def _slabs(source: Grid, matrix: Matrix, like: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Target indices (ndim, n, *rest) of slabs of the source grid, with each slab's start."""
    m = torch.from_numpy(matrix).to(device=like.device)  # float64: indices reach thousands
    rest = source.shape[1:]
    step = max(1, _SLAB_VOXELS // max(1, int(np.prod(rest))))
    tail = [torch.arange(n, device=like.device, dtype=torch.float64) for n in rest]
    for start in range(0, source.shape[0], step):
        count = min(step, source.shape[0] - start)
        head = torch.arange(start, start + count, device=like.device, dtype=torch.float64)
        index = torch.stack(torch.meshgrid(head, *tail, indexing="ij"))
        points = m[:-1, :-1] @ index.flatten(1) + m[:-1, -1:]
        yield start, points.reshape(index.shape).to(like.dtype)


def _fade(points: Tensor, shape: tuple[int, ...], taper: int) -> Tensor:
    """1 inside (and up to half a voxel outside), falling smoothly to 0 at ``taper`` voxels more."""
    weight = torch.ones_like(points[0])
    for axis, size in enumerate(shape):
        outside = torch.maximum(-points[axis], points[axis] - (size - 1)) - 0.5
        t = (outside / taper).clamp(0, 1)
        weight = weight * (1 - t * t * (3 - 2 * t))
    return weight
