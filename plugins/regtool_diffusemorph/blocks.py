"""Blocks of the score network, in 2-D and 3-D: time, residual block, attention, down, up.

They follow the form that DDPM (Ho et al., NeurIPS 2020) and SR3 (Saharia et al., 2021) gave the
U-Net and that DiffuseMorph took over.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolution(ndim: int, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
    """A convolution that keeps the size at stride 1 and halves even sizes at stride 2."""
    layer = nn.Conv3d if ndim == 3 else nn.Conv2d
    return layer(inputs, outputs, size, stride=stride, padding=size // 2)


def double(x: Tensor) -> Tensor:
    """Twice the size by repeating voxels."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


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


class FullAttention(nn.Module):
    """Every voxel attends to every other in one head of all channels; residual."""

    def __init__(self, ndim: int, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        layer = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.qkv = layer(channels, 3 * channels, 1, bias=False)
        self.out = layer(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        found = functional.scaled_dot_product_attention(q, k, v)  # scaled by sqrt(channels)
        return x + self.out(found.transpose(1, 2).reshape(x.shape))


class LinearAttention(nn.Module):
    """Keys are normalised over space, so that cost grows with the number of voxels; residual."""

    def __init__(self, ndim: int, channels: int, groups: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        layer = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.qkv = layer(channels, 3 * channels, 1, bias=False)
        self.out = layer(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, -1)
        q, k, v = qkv.unbind(1)
        summary = k.softmax(-1) @ v.transpose(-1, -2)  # (B, heads, keys, values)
        found = summary.transpose(-1, -2).to(q.dtype) @ q
        return x + self.out(found.reshape(x.shape))


ATTENTION: dict[str, type[FullAttention] | type[LinearAttention]] = {
    "full": FullAttention,
    "linear": LinearAttention,
}
