"""Composition of displacements and affine maps, all in voxels and tensor axis order."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.spatial.warp import identity, warp


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Displacement of ``phi_outer(phi_inner(x))``: ``inner(x) + outer(x + inner(x))``.

    Both (B, ndim, *S) in voxels of one grid. An image warped by the result equals
    ``warp(warp(image, outer), inner)`` up to interpolation. Outside the grid ``outer`` keeps its
    value at the border.
    """
    return inner + warp(outer, inner)


def apply_affine(matrix: Tensor, points: Tensor) -> Tensor:
    """Map points by a homogeneous matrix: ``A[:n, :n] @ p + A[:n, n]``.

    ``matrix`` (B, ndim+1, ndim+1) and ``points`` (B, ndim, *P), voxels in tensor axis order.
    Returns (B, ndim, *P). Batches of one are repeated.
    """
    n = matrix.shape[-1] - 1
    flat = points.reshape(*points.shape[:2], -1)
    # Mixed precision would multiply coordinates in half precision, a voxel off at 256.
    with torch.autocast(points.device.type, enabled=False):
        out = matrix[:, :n, :n].to(flat) @ flat + matrix[:, :n, n:].to(flat)
    return out.reshape(out.shape[0], n, *points.shape[2:])


def affine_to_displacement(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Displacement of an affine map on a grid: ``u(x) = A x - x``.

    ``matrix`` (B, ndim+1, ndim+1), voxels in tensor axis order. Returns (B, ndim, *shape).
    """
    # (A - I) x instead of A x - x: small displacements keep their digits in float32.
    n = matrix.shape[-1] - 1
    less_identity = matrix - torch.eye(n + 1, device=matrix.device, dtype=matrix.dtype)
    points = identity(tuple(shape), device=matrix.device, dtype=matrix.dtype)[None]
    return apply_affine(less_identity, points)


def compose_affine(matrix: Tensor, displacement: Tensor) -> Tensor:
    """Displacement of ``A(x + u(x))``: the affine map after the displacement.

    ``matrix`` (B, ndim+1, ndim+1), ``displacement`` (B, ndim, *S), voxels. Returns (B, ndim, *S).
    """
    n = matrix.shape[-1] - 1
    linear = torch.zeros_like(matrix)
    linear[:, :n, :n] = matrix[:, :n, :n]
    moved = apply_affine(linear, displacement)
    return affine_to_displacement(matrix, tuple(displacement.shape[2:])).to(moved) + moved
