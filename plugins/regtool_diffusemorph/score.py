"""The score network: the noise in the third image, seen beside the moving and the fixed one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regtool_diffusemorph.blocks import (
    ATTENTION,
    Layer,
    ResidualBlock,
    TimeEmbedding,
    convolution,
    double,
)


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
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for level, outputs in reversed(list(enumerate(widths))):
            for _ in range(2):
                inputs = channels + skips.pop()
                self.up.append(ResidualBlock(ndim, inputs, outputs, width, groups))
                channels = outputs
            if level > 0:
                self.larger.append(convolution(ndim, outputs, outputs))
        self.last = Layer(ndim, channels, 1, groups)
        self.apply(_orthogonal)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Noise (B, 1, *S) in float32, for steps ``t`` (B,) or (1,)."""
        time = self.time(t.expand(x.shape[0]))
        x = self.stem(x)
        skips = [x]
        for level, block in enumerate(self.down):
            x = block(x, time)
            skips.append(x)
            if level < len(self.smaller):
                x = self.smaller[level](x)
                skips.append(x)
        x = self.middle[1](self.attention(self.middle[0](x, time)), time)
        for number, block in enumerate(self.up):
            x = block(torch.cat([x, skips.pop()], 1), time)
            if number % 2 and skips:
                x = self.larger[number // 2](double(x))
        return self.last(x).float()


def _orthogonal(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
        nn.init.orthogonal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
