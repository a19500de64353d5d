"""Blocks of U-Nets that know a diffusion step: time embedding, layer, residual block.

They follow the form that DDPM (Ho et al., NeurIPS 2020) and SR3 (Saharia et al., 2021) gave the
U-Net, in 2-D and 3-D.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.nn.convolution import convolution


class TimeEmbedding(nn.Module):
    """The integer step as a vector: sinusoids of ``width`` numbers, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        """(B, width) for steps ``t`` (B,), counted from 0."""
        half = self.width // 2
        order = torch.arange(half, dtype=torch.float32, device=t.device) / half
        angle = t.float()[:, None] * torch.exp(-math.log(10_000.0) * order)
        return self.layers(torch.cat([angle.sin(), angle.cos()], 1))


class Layer(nn.Module):
    """Group normalisation, swish, convolution."""

    def __init__(self, ndim: int, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, inputs)
        self.convolution = convolution(ndim, inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(functional.silu(self.norm(x)))


class ResidualBlock(nn.Module):
    """Two layers with the projected time added between them, and a shortcut around both."""

    def __init__(self, ndim: int, inputs: int, outputs: int, time: int, groups: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time, outputs))
        self.first = Layer(ndim, inputs, outputs, groups)
        self.second = Layer(ndim, outputs, outputs, groups)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(ndim, inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, inputs, *S) and time (B, T) to (B, outputs, *S)."""
        h = self.first(x)
        h = h + self.time(time).to(h.dtype).reshape(*h.shape[:2], *[1] * (h.dim() - 2))
        return self.second(h) + self.shortcut(x)


def orthogonal(module: nn.Module) -> None:
    """Start every convolution and linear layer of ``module`` orthogonal, with biases of zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
