"""Convolutions of 2-D and 3-D networks that are written once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_WIDE = 16


def convolution(ndim: int, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
    """A convolution that keeps the size at stride 1 and halves even sizes at stride 2."""
    layer = nn.Conv3d if ndim == 3 else nn.Conv2d
    return layer(inputs, outputs, size, stride=stride, padding=size // 2)


def double(x: Tensor) -> Tensor:
    """Twice the size by repeating voxels."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def narrow_convolution(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` for a 3 x 3 x 3 ``layer``, with channels of zeros up to 16 on the CPU in 3-D.

    Below that torch 2.13 takes a path that is more than three times slower.
    """
    missing = _WIDE - x.shape[1]
    if x.dim() != 5 or x.device.type != "cpu" or missing <= 0:
        return layer(x)
    assert isinstance(layer, nn.Conv3d)
    x = torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], 1)
    weight = functional.pad(layer.weight, (0, 0, 0, 0, 0, 0, 0, missing))
    return functional.conv3d(x, weight, layer.bias, padding=1)
