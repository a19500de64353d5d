"""What both kinds of stem begin with: two images down to a sixteenth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api import UsageError
from regtool.api.nn import convolution

MULTIPLE = 16
"""Sizes must be multiples of it: four convolutions halve."""

SLOPE = 0.1


def activated(x: Tensor) -> Tensor:
    """LeakyReLU 0.1, which stands before the convolutions here (METHODS 5.7, 13)."""
    return functional.leaky_relu(x, SLOPE)


class Encoder(nn.Module):
    """Six 3-wide convolutions from two images to a sixteenth: (16, 32, 64, 64, 128, 128).

    ``widths`` are the four widths; the third and the fourth have a second convolution that does not
    halve. LeakyReLU stands before every convolution. As released that includes the first, where it
    leaves a tenth of the darker half of images in [-1, 1]; ``input_activation`` off leaves it out.
    """

    def __init__(self, ndim: int, widths: Sequence[int], input_activation: bool = True) -> None:
        super().__init__()
        if len(widths) != 4:
            raise UsageError(
                f"network.widths {list(widths)}: give four, the published 16 32 64 128"
            )
        a, b, c, d = widths
        plan = ((2, a, 2), (a, b, 2), (b, c, 2), (c, c, 1), (c, d, 2), (d, d, 1))
        self.down = nn.ModuleList(convolution(ndim, i, o, stride=stride) for i, o, stride in plan)
        self.input_activation = input_activation

    def forward(self, fixed: Tensor, moving: Tensor) -> list[Tensor]:
        """Features at 1/2, 1/4, 1/8 and 1/16 of images (B, 1, *S) in [-1, 1], none activated."""
        x = torch.cat([fixed, moving], 1)
        features = []
        for number, layer in enumerate(self.down):
            x = layer(activated(x) if number or self.input_activation else x)
            features.append(x)
        first, second, _, third, _, fourth = features
        return [first, second, third, fourth]
