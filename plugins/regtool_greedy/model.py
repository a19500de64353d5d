"""The method ``greedy``: the tool behind the method contract."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api import Context, Pair, Prediction, UsageError
from regtool.api.external import register_each, require
from regtool_greedy.options import GreedyOptions

log = logging.getLogger("regtool.methods.greedy")

LEAST = 4
"""Voxels along an axis below which greedy's smoothing stops with an error."""


class Greedy(nn.Module):
    """Registers each pair of a batch by greedy."""

    def forward(self, pair: Pair, options: GreedyOptions, context: Context) -> Prediction:
        """Return the displacement; coarse levels that the image is too thin for are left out.

        The note ``settings`` says what greedy was given.
        Raises UsageError when ``radius`` has the wrong number of values.
        """
        shape = tuple(pair.fixed.image.shape[2:])
        if len(options.radius) not in (1, len(shape)):
            raise UsageError(
                f"radius: one value or {len(shape)} are needed, not {len(options.radius)}"
            )
        levels = possible_levels(shape, len(options.iterations))
        if levels < len(options.iterations):
            log.warning(
                "greedy: %s voxels along the shortest axis allow %d of %d levels; larger motion "
                "may be missed (--slices registers slice by slice)",
                min(shape),
                levels,
                len(options.iterations),
            )
        settings = {
            **options.model_dump(),
            "iterations": list(options.iterations[-levels:]),
            "radius": list(
                options.radius if len(options.radius) > 1 else options.radius * len(shape)
            ),
        }
        answer = register_each(pair, context, "greedy", "regtool_greedy.tool:register", settings)
        answer.notes["settings"] = settings
        return answer


def possible_levels(shape: tuple[int, ...], wanted: int) -> int:
    """How many levels, each half as fine as the next, keep four voxels along every axis.

    At least 1 and at most ``wanted``. greedy rounds sizes up when it halves them.
    """
    levels = 1
    while levels < wanted and -(-min(shape) // 2**levels) >= LEAST:
        levels += 1
    return levels


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build the method. Raises PluginError where picsl-greedy is not installed."""
    require("picsl_greedy", "picsl-greedy", "greedy")
    return Greedy()
