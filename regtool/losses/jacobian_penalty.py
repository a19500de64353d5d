"""Penalties on the Jacobian determinant of a displacement."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from regtool.losses.reduce import masked_mean
from regtool.spatial.jacobian import jacobian_determinant


def fold_penalty(
    displacement: Tensor,
    margin: float = 0.0,
    scheme: Literal["central", "forward"] = "forward",
) -> Tensor:
    """``mean(max(margin - det(I + grad u), 0))``: zero where the determinant exceeds ``margin``.

    ``displacement`` (B, ndim, *S) in voxels. Returns a scalar. Source: local orientation
    consistency of SYMNet, Mok 2020, with margin 0 and forward differences.
    """
    return (margin - jacobian_determinant(displacement, scheme=scheme)).clamp(min=0).mean()


def volume_penalty(displacement: Tensor, mask: Tensor | None = None, floor: float = 0.01) -> Tensor:
    """``mean(log(max(det, floor))**2)``: growth and shrinkage by one factor cost the same.

    ``displacement`` (B, ndim, *S) in voxels; ``mask`` (B or 1, 1, *S) where volume is to be kept.
    Returns a scalar. Source: Rohlfing 2003, squared. Below the floor the gradient is zero, so
    combine it with ``fold_penalty``.
    """
    det = jacobian_determinant(displacement)[:, None]
    return masked_mean(det.clamp(min=floor).log().square(), mask)
