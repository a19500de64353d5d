"""Corner-aligned resizing of images and displacements."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(displacement: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Resample a displacement to another grid over the same corner voxels.

    ``displacement`` (B, ndim, *S) in voxels of S. Returns (B, ndim, *shape) in voxels of ``shape``:
    component i is multiplied by (new_i - 1) / (old_i - 1), the ratio of corner-to-corner lengths,
    as corner-aligned sampling asks (ANCHORS 6.6). A one-voxel axis keeps its component.
    """
    old = displacement.shape[2:]
    if tuple(old) == tuple(shape):
        return displacement
    factors = [(m - 1) / (n - 1) if n > 1 else 1.0 for m, n in zip(shape, old, strict=True)]
    scale = torch.tensor(factors, device=displacement.device, dtype=displacement.dtype)
    out = resize_image(displacement, shape)
    return out * scale.reshape(1, -1, *[1] * len(factors))


def resize_image(
    image: Tensor, shape: tuple[int, ...], *, mode: Literal["linear", "nearest"] = "linear"
) -> Tensor:
    """Resample an image (B, C, *S) to ``shape`` with corner-aligned coordinates.

    Voxel j of the result lies at ``j * (old - 1) / (new - 1)``. Shrinking does not smooth: apply
    ``regtool.spatial.smooth.gaussian`` first where aliasing matters. ``nearest`` suits labels and
    keeps their dtype. Returns (B, C, *shape).
    """
    shape = tuple(shape)
    if tuple(image.shape[2:]) == shape:
        return image
    if mode == "linear":
        kind = {2: "bilinear", 3: "trilinear"}[len(shape)]
        return F.interpolate(image, size=shape, mode=kind, align_corners=True)
    if mode != "nearest":
        raise ValueError(f"unknown interpolation {mode!r}: use linear or nearest")
    for axis, new in enumerate(shape, start=2):
        image = image.index_select(axis, _nearest(image.shape[axis], new, image.device))
    return image


def _nearest(old: int, new: int, device: torch.device) -> Tensor:
    at = torch.arange(new, device=device, dtype=torch.float64)
    return torch.floor(at * ((old - 1) / max(new - 1, 1)) + 0.5).long().clamp_(max=old - 1)
