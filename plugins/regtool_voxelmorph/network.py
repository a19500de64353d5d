"""The VoxelMorph networks: a U-Net that maps an image pair to a displacement or a velocity.

Sources: Balakrishnan et al., IEEE TMI 2019 (VoxelMorph-1 and -2); Dalca et al., MedIA 2019 (the
probabilistic, diffeomorphic form). The variants differ only in widths and in how they downsample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Pair, Prediction
from regtool.api.nn import convolution, double, pad_to_multiple
from regtool.api.spatial import cascade, compose, integrate, resize
from regtool_voxelmorph.options import DiffOptions, VoxelMorphOptions


@dataclass(frozen=True)
class Variant:
    """Widths of one published form. ``half`` is the extra convolution at half resolution."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    half: tuple[int, ...]
    full: tuple[int, ...]
    strided: bool = True


VARIANTS: dict[str, Variant] = {
    # Papers of 2018-2019, strided convolutions: 259,675 and 300,547 parameters in 3-D.
    "1": Variant((16, 32, 32, 32), (32, 32, 32, 32), (8,), (8,)),
    "2": Variant((16, 32, 32, 32), (32, 32, 32, 32), (32,), (16, 16)),
    # As in the TransMorph benchmark: 274,387 and 301,411.
    "benchmark-1": Variant((8, 32, 32, 32), (32, 32, 32, 32), (), (32, 8, 8)),
    "benchmark-2": Variant((16, 32, 32, 32), (32, 32, 32, 32), (), (32, 16, 16)),
    # Present default of the authors' package, max-pooling: 327,331.
    "default": Variant((16, 32, 32, 32), (32, 32, 32, 32), (), (32, 16, 16), strided=False),
}


SQUARINGS = 7
"""Squarings that integrate a velocity in training."""


class _Block(nn.Module):
    """3-wide convolution and LeakyReLU 0.2; no normalisation."""

    def __init__(self, ndim: int, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = convolution(ndim, inputs, outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.convolution(x), 0.2)


class UNet(nn.Module):
    """The VoxelMorph U-Net. Input (B, 2, *S), every size a multiple of 16.

    Returns features at full resolution, or at half resolution with ``to_half`` (the diffeomorphic
    form stops there). ``width`` multiplies all widths.
    """

    multiple = 16

    def __init__(self, ndim: int, variant: Variant, *, to_half: bool = False, width: int = 1):
        super().__init__()
        self.strided, self.to_half = variant.strided, to_half
        encoder = [width * w for w in variant.encoder]
        decoder = [width * w for w in variant.decoder]
        half, full = [width * w for w in variant.half], [width * w for w in variant.full]
        stride = 2 if variant.strided else 1
        inputs = [2, *encoder[:-1]]
        self.down = nn.ModuleList(
            _Block(ndim, i, o, stride) for i, o in zip(inputs, encoder, strict=True)
        )
        # The deepest strided feature is the start of the way up; pooled ones are all skips.
        skips = encoder[-2::-1] if variant.strided else encoder[:0:-1]
        up, channels = [], encoder[-1]
        for position, outputs in enumerate(decoder):
            skip = 0 if position == 0 else skips[position - 1]
            up.append(_Block(ndim, channels + skip, outputs))
            channels = outputs
        self.up = nn.ModuleList(up)
        self.middle = nn.ModuleList()
        for outputs in half:
            self.middle.append(_Block(ndim, channels, outputs))
            channels = outputs
        self.last = nn.ModuleList()
        if not to_half:
            channels += 2 if variant.strided else encoder[0]
            for outputs in full:
                self.last.append(_Block(ndim, channels, outputs))
                channels = outputs
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        skips, pair = [], x
        for block in self.down:
            x = block(x)
            skips.append(x)
            if not self.strided:
                pool = nn.functional.max_pool3d if x.ndim == 5 else nn.functional.max_pool2d
                x = pool(x, 2)
        if self.strided:
            skips.pop()
            skips.insert(0, pair)
        x = self.up[0](x)
        for block in self.up[1:]:
            x = block(torch.cat([double(x), skips.pop()], 1))
        for block in self.middle:
            x = block(x)
        if self.to_half:
            return x
        x = torch.cat([double(x), skips.pop()], 1)
        for block in self.last:
            x = block(x)
        return x


class _Head(nn.Module):
    """The last convolution, in float32 even under mixed precision: voxels need the digits."""

    def __init__(self, ndim: int, channels: int, spread: float, bias: float = 0.0) -> None:
        super().__init__()
        self.convolution = convolution(ndim, channels, ndim)
        nn.init.normal_(self.convolution.weight, 0.0, spread)
        if self.convolution.bias is not None:
            nn.init.constant_(self.convolution.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.convolution(x.float())


class VoxelMorph(nn.Module):
    """VoxelMorph: the displacement comes straight from the U-Net at full resolution."""

    def __init__(self, ndim: int, variant: str = "2", width: int = 1) -> None:
        super().__init__()
        self.unet = UNet(ndim, VARIANTS[variant], width=width)
        self.flow = _Head(ndim, self.unet.channels, 1e-5)

    def displacement(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Displacement (B, ndim, *S) in voxels from two images (B, 1, *S) in [0, 1]."""
        x, crop = pad_to_multiple(torch.cat([moving, fixed], 1), self.unet.multiple)
        return crop(self.flow(self.unet(x)))

    def forward(self, pair: Pair, options: VoxelMorphOptions, context: Context) -> Prediction:
        """Register in ``options.passes`` passes; one is the paper's, more are ``cascade``."""

        def look(image: Tensor) -> Tensor:
            return self.displacement(image, pair.fixed.image)

        return Prediction(displacement=cascade(look, pair.moving.image, options.passes))


class VoxelMorphDiff(nn.Module):
    """VoxelMorph-diff: mean and log-variance of a stationary velocity at half resolution."""

    def __init__(self, ndim: int, variant: str = "2", width: int = 1) -> None:
        super().__init__()
        self.unet = UNet(ndim, VARIANTS[variant], to_half=True, width=width)
        self.mean = _Head(ndim, self.unet.channels, 1e-5)
        self.log_variance = _Head(ndim, self.unet.channels, 1e-10, bias=-10.0)

    def velocity(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, ndim, *S/2) of the velocity, in half-resolution voxels.

        The images must have sizes divisible by 16.
        """
        x = self.unet(torch.cat([moving, fixed], 1))
        return self.mean(x), self.log_variance(x)

    def expand(self, velocity: Tensor, shape: tuple[int, ...], steps: int = SQUARINGS) -> Tensor:
        """Integrate a half-resolution velocity and bring the displacement to ``shape``."""
        with torch.autocast(velocity.device.type, enabled=False):
            return resize(integrate(velocity.float(), steps), shape)

    def forward(self, pair: Pair, options: DiffOptions, context: Context) -> Prediction:
        """Register a pair with the mean velocity; the inverse integrates its negative.

        Further passes (``options.passes``) are composed, their inverses in the other order. Each
        pass looks at what all before it warped the whole way; ``options.fraction`` then takes that
        part of every pass's velocity.
        """
        moving, crop = pad_to_multiple(pair.moving.image, self.unet.multiple)
        fixed, _ = pad_to_multiple(pair.fixed.image, self.unet.multiple)
        shape = tuple(fixed.shape[2:])
        velocities: list[Tensor] = []

        def look(image: Tensor) -> Tensor:
            velocities.append(self.velocity(image, fixed)[0])
            return self.expand(velocities[-1], shape, options.steps)

        there = cascade(look, moving, options.passes)
        parts = [options.fraction * velocity for velocity in velocities]
        if options.fraction != 1:
            there = reduce(compose, [self.expand(v, shape, options.steps) for v in parts])
        returns = [self.expand(-v, shape, options.steps) for v in parts]
        back = reduce(lambda back, return_: compose(return_, back), returns)
        return Prediction(displacement=crop(there), inverse=crop(back))


def build(config: Mapping[str, Any]) -> VoxelMorph:
    """Build VoxelMorph from a preset or a weights folder's config.json."""
    return VoxelMorph(config["ndim"], **config["network"])


def build_diff(config: Mapping[str, Any]) -> VoxelMorphDiff:
    """Build VoxelMorph-diff from a preset or a weights folder's config.json."""
    return VoxelMorphDiff(config["ndim"], **config["network"])
