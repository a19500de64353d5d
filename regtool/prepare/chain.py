"""A chain of transforms as the displacement that a network would have answered."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from regtool.imaging.resample import transform_points
from regtool.imaging.transforms import Transform
from regtool.spatial.frames import grid_points, points_to_displacement
from regtool.spatial.grid import Grid


def chain_displacement(grid: Grid, transforms: Sequence[Transform]) -> Tensor:
    """Where the voxels of ``grid`` go, as a displacement (ndim, *grid.shape) float32 in its voxels.

    ``transforms`` in the order of ``regtool.imaging.resample``: ``[field, affine]`` is
    ``A(x + u(x))``; a field is zero outside its own grid.
    """
    return points_to_displacement(transform_points(grid_points(grid), transforms), grid)
