"""AD-RegNet whole: registration in one or several passes, whole or in tiles, with its extras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from regtool.api import Context, Pair, Prediction, UsageError
from regtool.api.spatial import cascade
from regtool.api.tiles import blended
from regtool_ad_regnet.extras import Shown
from regtool_ad_regnet.memory import check
from regtool_ad_regnet.network import ADRegNet, Fields
from regtool_ad_regnet.options import ADRegNetOptions


class Registration(nn.Module):
    """The network as a method of regtool."""

    def __init__(self, network: ADRegNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pair: Pair, options: ADRegNetOptions, context: Context) -> Prediction:
        """Register a pair, whole or in tiles; the extras are those of the first pass.

        The record's ``attention`` says how each level looked. Raises DeviceError before anything is
        computed when the memory is too small, UsageError for extras of tiles.
        """
        shape = tuple(pair.fixed.image.shape[2:])
        if options.tile is not None and options.shows:
            raise UsageError("tile: extras need the whole volume; leave out one or the other")
        check(self.network, shape, options, pair.fixed.image.device, pair.fixed.image.shape[0])
        if options.tile is None:
            answer = self._whole(pair, options, context)
        else:
            shape = tuple(min(options.tile, n) for n in shape)
            answer = Prediction(
                displacement=blended(
                    pair, shape, options.overlap, lambda part: self._passes(part, options.passes)
                )
            )
        answer.notes["attention"] = self._looks(shape)
        if pair.moving.mask is not None:
            answer.warnings.append("the moving mask is not used: regions are those of the fixed")
        return answer

    def _whole(self, pair: Pair, options: ADRegNetOptions, context: Context) -> Prediction:
        if not options.shows:
            return Prediction(displacement=self._passes(pair, options.passes))
        network, fixed = self.network, pair.fixed
        shown = Shown(network, pair, options)
        features = network.features(fixed.image, pair.moving.image)
        if options.uncertainty:
            shown.uncertainty(features, context)
        shape = tuple(fixed.image.shape[2:])
        fields = network.synthesise(features, shape, fixed.mask, watch=shown.watch)
        shown.of(fields)
        u = self._passes(pair, options.passes - 1, fields.displacement)
        return Prediction(displacement=u, extras=shown.extras)

    def _passes(self, pair: Pair, passes: int, start: Tensor | None = None) -> Tensor:
        """The displacement of a pair without extras; one pass is the paper's way."""

        def look(image: Tensor) -> Tensor:
            found: Fields = self.network(pair.fixed.image, image, pair.fixed.mask)
            return found.displacement

        return cascade(look, pair.moving.image, passes, "border", start)

    def _looks(self, shape: tuple[int, ...]) -> dict[str, str]:
        """How cross-attention looked at each level, in words."""
        told = {}
        for number, seen in self.network.looks(shape).items():
            window = " x ".join(map(str, seen.window))
            how = "dense" if seen.dense else f"windows of {window}"
            told[f"level {number}"] = f"{how}, {seen.tokens} tokens"
        return told


def build(config: Mapping[str, Any]) -> Registration:
    """Build AD-RegNet from a preset or a weights folder's config.json."""
    return Registration(ADRegNet(**config["network"]))
