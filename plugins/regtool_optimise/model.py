"""The method ``optimise``: core's instance optimisation behind the method contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api import Context, Pair, Prediction
from regtool.api.refine import Optimisation, optimise
from regtool_optimise.options import OptimiseOptions

SMOOTHNESS = {"ncc": 1.0, "mse": 0.02}
"""Weights that suit each similarity on images in [0, 1]."""


class Optimise(nn.Module):
    """Optimises a displacement from zero for each pair."""

    def forward(self, pair: Pair, options: OptimiseOptions, context: Context) -> Prediction:
        """Register a pair; previews show the displacement after each level."""
        settings = Optimisation(
            similarity=options.similarity,
            window=options.window,
            smoothness=options.smoothness or SMOOTHNESS[options.similarity],
            iterations=options.iterations,
            rate=options.rate,
        )
        return Prediction(displacement=optimise(pair, settings, context))


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build the method; it has no parameters of its own."""
    return Optimise()
