"""The method ``syn``: ANTs behind the method contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api import Context, Pair, Prediction
from regtool.api.external import register_each, require
from regtool_syn.options import SynOptions


class Syn(nn.Module):
    """Registers each pair of a batch by the deformable stage of ANTs."""

    def forward(self, pair: Pair, options: SynOptions, context: Context) -> Prediction:
        """Return the displacement and its inverse, both as ANTs estimates them.

        The note ``settings`` says what ANTs was given.
        """
        settings = options.settings()
        answer = register_each(pair, context, "syn", "regtool_syn.tool:register", settings)
        answer.notes["settings"] = {**settings, "iterations": list(settings["iterations"])}
        return answer


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build the method. Raises PluginError where antspyx is not installed."""
    require("ants", "antspyx", "syn")
    return Syn()
