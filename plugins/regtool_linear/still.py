"""A method whose whole answer is the initial alignment: core estimates it, nothing moves after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api import Context, Pair, Prediction


class Still(nn.Module):
    """Predicts no displacement."""

    def forward(self, pair: Pair, options: Any, context: Context) -> Prediction:
        """Return zeros of the pair's shape, which are their own inverse."""
        image = pair.fixed.image
        ndim = image.dim() - 2
        shape = (image.shape[0], ndim, *image.shape[2:])
        return Prediction(displacement=image.new_zeros(shape), inverse=image.new_zeros(shape))


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build the method; the config has no influence."""
    return Still()
