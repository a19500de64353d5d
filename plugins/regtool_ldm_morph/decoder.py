"""The way up: from the maps of four levels to a displacement in normalised units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Sequential):
    """3-wide convolution without bias, instance norm without parameters, LeakyReLU 0.01."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.InstanceNorm2d(outputs),
            nn.LeakyReLU(0.01),
        )


def double(x: Tensor) -> Tensor:
    """Bicubic upsampling by two."""
    return F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)


class UpBlock(nn.Module):
    """Double a map, append the skips of its level, and convolve twice."""

    def __init__(self, inputs: int, skips: int, outputs: int) -> None:
        super().__init__()
        self.fuse = Convolution(inputs + skips, outputs)
        self.refine = Convolution(outputs, outputs)

    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        return self.refine(self.fuse(torch.cat([double(x), *skips], 1)))


class Head(nn.Module):
    """The last convolution and Softsign, in float32 even under mixed precision.

    Weights start at normal(0, 1e-5), so the first displacements are next to nothing. The result
    (B, 2, H, W) has normalised units: 1 is half an image from corner to corner.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2, 3, padding=1)
        nn.init.normal_(self.convolution.weight, 0.0, 1e-5)
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.softsign(self.convolution(x.float()))
