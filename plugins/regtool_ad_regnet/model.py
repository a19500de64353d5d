"""AD-RegNet whole: registration in one or several passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api import Context, Pair, Prediction
from regtool.api.spatial import compose, warp
from regtool_ad_regnet.network import ADRegNet
from regtool_ad_regnet.options import ADRegNetOptions


class Registration(nn.Module):
    """The network as a method of regtool."""

    def __init__(self, network: ADRegNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pair: Pair, options: ADRegNetOptions, context: Context) -> Prediction:
        """Register a pair in ``options.passes`` passes; one is the paper's.

        A further pass sees the moving image as warped so far, and its answer is composed with the
        displacement so far, as in a recursive cascade whose stages share their weights (Zhao et
        al., ICCV 2019).
        """
        fixed, moving, mask = pair.fixed.image, pair.moving.image, pair.fixed.mask
        u = self.network(fixed, moving, mask).displacement
        for _ in range(options.passes - 1):
            further = self.network(fixed, warp(moving, u), mask).displacement
            u = compose(u, further)
        return Prediction(displacement=u)


def build(config: Mapping[str, Any]) -> Registration:
    """Build AD-RegNet from a preset or a weights folder's config.json."""
    return Registration(ADRegNet(**config["network"]))
