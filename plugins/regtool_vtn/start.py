"""First weights that keep the size of what passes through; PyTorch's own shrink it by layers."""

from __future__ import annotations

import math

from torch import nn

from regtool_vtn.encoder import SLOPE


def he_start(module: nn.Module, but: str | None = None) -> None:
    """He's normal weights for LeakyReLU and zero biases in every convolution of ``module``.

    The layer of the name ``but`` keeps what it has. A transposed convolution of stride s
    reaches each voxel with a share 1 / s of its taps along every axis. Source: He, ICCV 2015.
    """
    for name, layer in module.named_modules():
        if name == but or not isinstance(
            layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
        ):
            continue
        taps = math.prod(layer.kernel_size)
        if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
            taps //= math.prod(layer.stride)
        spread = math.sqrt(2 / (1 + SLOPE**2) / (layer.in_channels * taps))
        nn.init.normal_(layer.weight, 0.0, spread)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
