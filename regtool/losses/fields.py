"""How far two displacements are apart."""

from __future__ import annotations

from torch import Tensor

_NEAR = 0.01
"""Squared distance (voxels) below which the pull fades: the distance itself has a kink at zero."""


def field_distance(displacement: Tensor, field: Tensor) -> Tensor:
    """Mean distance of two displacements (B, ndim, *S), in their voxels, a scalar.

    It ends at 0.1 for equal ones, with a gradient that fades.
    """
    apart = (displacement.float() - field.float()).square().sum(1)
    return apart.add(_NEAR).sqrt().mean()
