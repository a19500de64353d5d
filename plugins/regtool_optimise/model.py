"""The method ``optimise``: core's instance optimisation behind the method contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api import Context, Pair, Prediction, UsageError
from regtool.api.refine import LENGTHS, Optimisation, optimise
from regtool_optimise.options import FINER, PRESETS, SMOOTHNESS, OptimiseOptions


class Optimise(nn.Module):
    """Optimises a displacement from zero for each pair."""

    def forward(self, pair: Pair, options: OptimiseOptions, context: Context) -> Prediction:
        """Register a pair; previews show the displacement after each level."""
        try:
            return optimise(pair, settings(options, pair.fixed.image.dim() - 2), context)
        except ValueError as error:
            raise UsageError(f"method 'optimise': {error}") from error


def settings(options: OptimiseOptions, ndim: int) -> Optimisation:
    """The engine's settings for the options and images of 2 or 3 axes.

    Raises ValueError where options exclude each other.
    """
    given = {name: value for name, value in options if value is not None and name != "preset"}
    preset = LENGTHS[ndim] | PRESETS[options.preset]
    if options.preset == "accurate":
        preset |= FINER[ndim]
    if options.formulation != "compositive":
        preset |= {"symmetric": False, "rate": 0.1}
        preset["smoothness"] = 0.0 if options.bending else SMOOTHNESS[options.similarity]
    return Optimisation(**{**preset, **given})


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build the method; it has no parameters of its own."""
    return Optimise()
