"""The diffused variable: a displacement in voxels as the denoiser knows it, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regtool.api.diffusion import FieldScale
from regtool.api.nn import pad_to_multiple
from regtool.api.spatial import resize_image


@dataclass(frozen=True)
class FieldGrid(FieldScale):
    """``u = mean + std z``, z on a grid that has one voxel for ``cell`` voxels of the images.

    Numbers are voxels of the images on both grids. Images of size ``shape`` are completed to a
    multiple of ``multiple`` first; both grids have the same corner voxels.
    """

    shape: tuple[int, ...] = ()
    multiple: tuple[int, ...] = ()
    cell: tuple[int, ...] = ()

    @property
    def padded(self) -> tuple[int, ...]:
        """The images' size after completion."""
        return tuple(-(-n // m) * m for n, m in zip(self.shape, self.multiple, strict=True))

    @property
    def pitch(self) -> tuple[float, ...]:
        """Voxels of the images for one of the field's grid, along each axis."""
        return tuple(float(c) for c in self.cell)

    @property
    def size(self) -> tuple[int, ...]:
        """Size of the field's grid."""
        return tuple(n // c for n, c in zip(self.padded, self.cell, strict=True))

    def voxels(self, z: Tensor) -> Tensor:
        """The displacement (B, ndim, *shape) of a normalised field (B, ndim, *size), float32."""
        u = self.everywhere(z)
        return u[(slice(None), slice(None), *(slice(0, n) for n in self.shape))]

    def everywhere(self, z: Tensor) -> Tensor:
        """The same on all of ``padded``."""
        with torch.autocast(z.device.type, enabled=False):
            return resize_image(super().voxels(z), self.padded)

    def normalised(self, u: Tensor) -> Tensor:
        """The normalised field (B, ndim, *size) of a displacement (B, ndim, *shape), float32."""
        with torch.autocast(u.device.type, enabled=False):
            return super().normalised(resize_image(self.complete(u.float()), self.size))

    def complete(self, x: Tensor) -> Tensor:
        """``x`` (B, C, *shape) with its far edges repeated up to ``padded``."""
        return pad_to_multiple(x, self.multiple)[0]
