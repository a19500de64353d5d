"""The score network: the noise in the third image, seen beside the moving and the fixed one.

DiffuseMorph (Kim et al., ECCV 2022) and FSDiffReg (Qin and Li, MICCAI 2023) have the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regtool.nn.attention import ATTENTION
from regtool.nn.convolution import convolution, double
from regtool.nn.residual import Layer, ResidualBlock, TimeEmbedding, orthogonal


@dataclass
class Scored:
    """What the network saw on the way to the noise (B, 1, *S), which is float32.

    ``time`` (B, width); ``middle`` the deepest features; ``skips`` those of the way down and ``up``
    those of the way up, one for each of its blocks, both in the order in which the way up goes.
    """

    noise: Tensor
    time: Tensor
    middle: Tensor
    skips: list[Tensor]
    up: list[Tensor]


@dataclass(frozen=True)
class UpBlock:
    """Widths of one block of the way up; ``grows``: twice the size comes after it."""

    stream: int
    skip: int
    outputs: int
    grows: bool


class ScoreNetwork(nn.Module):
    """A U-Net with one residual block a level on the way down and two on the way up.

    Input (B, 3, *S): moving, fixed and noisy fixed image in [-1, 1], sizes divisible by
    2 ** (levels - 1); output (B, 1, *S), the noise. Widths are ``width`` times ``factors``.
    Attention is in the first middle block only, as in the release, whose settings for other places
    are never reached.
    """

    def __init__(
        self,
        ndim: int,
        width: int,
        factors: Sequence[int] = (1, 2, 4, 4),
        groups: int = 32,
        attention: str = "full",
    ) -> None:
        super().__init__()
        widths = [width * factor for factor in factors]
        self.width, self.groups = width, groups
        self.time = TimeEmbedding(width)
        self.stem = convolution(ndim, 3, width)
        skips, channels = [width], width
        self.down, self.smaller = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(widths):
            self.down.append(ResidualBlock(ndim, channels, outputs, width, groups))
            skips.append(outputs)
            channels = outputs
            if level < len(widths) - 1:
                self.smaller.append(convolution(ndim, outputs, outputs, stride=2))
                skips.append(outputs)
        self.middle = nn.ModuleList(
            ResidualBlock(ndim, channels, channels, width, groups) for _ in range(2)
        )
        self.attention = ATTENTION[attention](ndim, channels, groups)
        self.plan = tuple(_up_blocks(widths, skips))
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for block in self.plan:
            inputs = block.stream + block.skip
            self.up.append(ResidualBlock(ndim, inputs, block.outputs, width, groups))
            if block.grows:
                self.larger.append(convolution(ndim, block.outputs, block.outputs))
        self.last = Layer(ndim, width * factors[0], 1, groups)
        orthogonal(self)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Noise (B, 1, *S) in float32, for steps ``t`` (B,) or (1,)."""
        return self.scored(x, t).noise

    def scored(self, x: Tensor, t: Tensor) -> Scored:
        """The noise and what led to it; arguments as of ``forward``."""
        time = self.time(t.expand(x.shape[0]))
        x = self.stem(x)
        skips = [x]
        for level, block in enumerate(self.down):
            x = block(x, time)
            skips.append(x)
            if level < len(self.smaller):
                x = self.smaller[level](x)
                skips.append(x)
        x = middle = self.middle[1](self.attention(self.middle[0](x, time)), time)
        skips.reverse()
        up, larger = [], iter(self.larger)
        for block, skip, plan in zip(self.up, skips, self.plan, strict=True):
            x = block(torch.cat([x, skip], 1), time)
            up.append(x)
            if plan.grows:
                x = next(larger)(double(x))
        return Scored(self.last(x).float(), time, middle, skips, up)


def _up_blocks(widths: Sequence[int], skips: list[int]) -> Iterator[UpBlock]:
    """Two blocks a level from the deepest up, each taking the last skip that is left."""
    left, channels = list(skips), widths[-1]
    for level, outputs in reversed(list(enumerate(widths))):
        for number in range(2):
            yield UpBlock(channels, left.pop(), outputs, grows=number == 1 and level > 0)
            channels = outputs
