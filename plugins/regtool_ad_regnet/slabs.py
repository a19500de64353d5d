"""Layers on maps too large to hold twice: slab by slab along z, normalised in place.

In training, and for small maps, they are PyTorch's own. Without gradients a map of more than
``LARGE`` values goes in slabs of about ``SLAB`` values, with the neighbouring planes that a
convolution needs, so the result is the same up to rounding while no second map of the size exists.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api.nn import quick_convolution

LARGE = 2**24
"""Values (64 MiB in float32) up to which a map is treated as a whole."""

SLAB = 2**24
"""Values of a slab, input and output together."""

SLOPE = 0.2
"""Of LeakyReLU below zero; the paper names no activation."""

_EPSILON = 1e-5


def in_slabs(*maps: Tensor) -> bool:
    """Whether work on these maps is done slab by slab."""
    return not torch.is_grad_enabled() and max(x.numel() for x in maps) > LARGE


def slabs(depth: int, plane: int, unit: int = 1) -> Iterator[tuple[int, int]]:
    """First and last plane + 1 of each slab; ``plane`` values a plane, multiples of ``unit``."""
    step = max(1, SLAB // max(1, plane * unit)) * unit
    for start in range(0, depth, step):
        yield start, min(start + step, depth)


def convolve(layer: nn.Conv3d, *parts: Tensor) -> Tensor:
    """``layer`` of maps (B, C_i, z, y, x) laid side by side; 3 x 3 x 3 or 1 x 1 x 1, stride 1."""
    halo = layer.kernel_size[0] // 2
    if not in_slabs(*parts):
        return quick_convolution(layer, torch.cat(parts, 1) if len(parts) > 1 else parts[0], halo)
    depth, (high, wide) = parts[0].shape[2], parts[0].shape[3:]
    plane = high * wide * (layer.in_channels + layer.out_channels)
    out: Tensor | None = None
    for start, stop in slabs(depth, plane):
        low, top = max(start - halo, 0), min(stop + halo, depth)
        piece = torch.cat([x[:, :, low:top] for x in parts], 1)
        missing = (halo - (start - low), halo - (top - stop))
        if any(missing):
            piece = functional.pad(piece, (0, 0, 0, 0, *missing))
        done = quick_convolution(layer, piece, (0, halo, halo))
        if out is None:
            out = done.new_empty(parts[0].shape[0], layer.out_channels, depth, high, wide)
        out[:, :, start:stop] = done
    assert out is not None
    return out


def doubled(layer: nn.Module, x: Tensor) -> Tensor:
    """A transposed convolution of 2 x 2 x 2 and stride 2: maps of twice the size."""
    assert isinstance(layer, nn.ConvTranspose3d)
    if torch.is_grad_enabled() or 4 * x.numel() <= LARGE:
        return layer(x)
    depth = x.shape[2]
    plane = x[:, :1, 0].numel() * (layer.in_channels + 8 * layer.out_channels)
    out: Tensor | None = None
    for start, stop in slabs(depth, plane):
        done = layer(x[:, :, start:stop])
        if out is None:
            out = done.new_empty(*done.shape[:2], 2 * depth, *done.shape[3:])
        out[:, :, 2 * start : 2 * stop] = done
    assert out is not None
    return out


class Normalised(nn.Module):
    """Instance norm with scale and shift, then LeakyReLU; in place where no gradient is taken.

    The statistics of a large map are taken of the whole before any of it is changed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.zeros(channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, z, y, x), each channel of each element to mean 0 and SD 1."""
        if not in_slabs(x):
            # A map of one voxel is its own mean; instance_norm would refuse it.
            x = torch.group_norm(x, x.shape[1], self.weight, self.bias, _EPSILON)
            return functional.leaky_relu(x, SLOPE, inplace=not torch.is_grad_enabled())
        scale, shift = self._whole(x)
        for start, stop in slabs(x.shape[2], x[:, :, 0].numel()):
            piece = x[:, :, start:stop]
            piece.copy_(functional.leaky_relu_(piece.float().mul(scale).add_(shift), SLOPE))
        return x

    def _whole(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift (B, C, 1, 1, 1) float32 that normalise ``x``."""
        axes = (2, 3, 4)
        ranges = list(slabs(x.shape[2], x[:, :, 0].numel()))
        count = x[0, 0].numel()

        def total(of: Tensor | None) -> Tensor:
            sums = x.new_zeros(*x.shape[:2], 1, 1, 1, dtype=torch.float64)
            for start, stop in ranges:
                piece = x[:, :, start:stop].float()
                piece = piece if of is None else (piece - of).square_()
                sums += piece.sum(axes, keepdim=True)
            return sums / count

        mean = total(None).float()
        variance = total(mean).float()
        scale = self.weight.reshape(1, -1, 1, 1, 1) * (variance + _EPSILON).rsqrt()
        return scale, self.bias.reshape(1, -1, 1, 1, 1) - mean * scale
