"""Distance of landmarks that a displacement should bring together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regtool.spatial.warp import sample


def landmark_distances(
    displacement: Tensor, fixed: Tensor, moving: Tensor, spacing: Sequence[float]
) -> Tensor:
    """``|x_F + u(x_F) - x_M|`` in mm of every landmark inside the fixed grid, (K,).

    ``displacement`` (B, ndim, *S) in voxels, which takes fixed points to moving points (METHODS
    7.7.9); ``fixed`` and ``moving`` (B, N, ndim) in voxels of that grid; ``spacing`` in mm, one
    value a tensor axis. Points whose place in the fixed image is outside the grid are left out, as
    in a patch; those in the moving image may lie anywhere. u is interpolated linearly. Raises
    ValueError where the points do not fit each other or the field.
    """
    wanted = (displacement.shape[0], fixed.shape[1], displacement.shape[1])
    if fixed.shape != moving.shape or tuple(fixed.shape) != wanted:
        raise ValueError(
            f"points {tuple(fixed.shape)} and {tuple(moving.shape)} for a field "
            f"{tuple(displacement.shape)}: each must be (B, N, ndim)"
        )
    u = displacement.to(torch.promote_types(displacement.dtype, torch.float32))
    f, m, mm = fixed.to(u), moving.to(u), u.new_tensor(tuple(spacing))
    last = u.new_tensor([n - 1 for n in u.shape[2:]])
    inside = ((f >= 0) & (f <= last)).all(-1)
    moved = f + sample(u, f.transpose(1, 2)).transpose(1, 2)
    return torch.linalg.vector_norm(((moved - m) * mm)[inside], dim=-1)


def landmark_distance(
    displacement: Tensor, fixed: Tensor, moving: Tensor, spacing: Sequence[float]
) -> Tensor:
    """The mean of ``landmark_distances``, a scalar in mm: the target registration error.

    Zero, without a gradient, where no landmark lies inside the grid.
    """
    apart = landmark_distances(displacement, fixed, moving, spacing)
    return apart.mean() if apart.numel() else displacement.sum() * 0.0
