"""Warps, composition, integration and determinants for plugins; imports torch.

Displacements are (B, ndim, *S) in voxels of their grid, component i along tensor axis i:
``warped(x) = moving(x + u(x))``.
"""

from __future__ import annotations

from regtool.spatial.cascade import cascade
from regtool.spatial.compose import affine_to_displacement, apply_affine, compose, compose_affine
from regtool.spatial.integrate import integrate
from regtool.spatial.invert import invert
from regtool.spatial.jacobian import jacobian_determinant
from regtool.spatial.relax import cosine_transform
from regtool.spatial.resize import resize, resize_image
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import identity, sample, warp, warp_labels

__all__ = [
    "affine_to_displacement",
    "apply_affine",
    "cascade",
    "compose",
    "compose_affine",
    "cosine_transform",
    "gaussian",
    "identity",
    "integrate",
    "invert",
    "jacobian_determinant",
    "resize",
    "resize_image",
    "sample",
    "warp",
    "warp_labels",
]
