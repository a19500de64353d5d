"""What the network can show beside its field: every level's field, attention and uncertainty.

Level 0 is the finest. All are on the images' own grid: a level's field is enlarged to it, in its
voxels, maps linearly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from regtool.api import Context, Extra, Pair
from regtool.api.nn import cropped
from regtool.api.spatial import jacobian_determinant, warp
from regtool_ad_regnet.fusion import enlarged
from regtool_ad_regnet.network import ADRegNet, Features, Fields
from regtool_ad_regnet.options import ADRegNetOptions

Extras = dict[str, Extra]


class Shown:
    """Collects the extras that the options ask for; ``watch`` goes to the network's synthesis."""

    def __init__(self, network: ADRegNet, pair: Pair, options: ADRegNetOptions) -> None:
        self.network, self.pair, self.options = network, pair, options
        self.shape = tuple(pair.fixed.image.shape[2:])
        self.extras: Extras = {}

    @property
    def watch(self) -> Callable[[int, Tensor, Tensor], None] | None:
        """What looks at the features of each level, if their entropy is wanted."""
        return self._entropy if self.options.entropy else None

    def of(self, fields: Fields) -> None:
        """Fields, weights, regions and determinants of every level (METHODS 7.5)."""
        o, count = self.options, len(fields.levels)
        for place, (level, answer) in enumerate(zip(fields.levels, fields.answers, strict=True)):
            number = count - 1 - place
            if o.levels or o.jacobian:
                field = self._field(level, number)
                if o.levels:
                    self.extras[f"Level{number}Warp"] = Extra(field, "field")
                if o.jacobian:
                    determinant = jacobian_determinant(field)[:, None]
                    self.extras[f"Level{number}Jacobian"] = Extra(determinant, "map")
            if o.attention and answer.importance is not None:
                self._map(f"Level{number}Regions", answer.importance, number)
            if o.attention and answer.weight is not None:
                self._map(f"Level{number}Weight", answer.weight, number)

    def uncertainty(self, features: Features, context: Context) -> None:
        """Appearance uncertainty by Monte-Carlo dropout before the heads (METHODS 7.5 a).

        For every level, over ``options.samples`` draws: ``LevelNUncertainty``, the mean squared
        difference between the moving image as warped and the fixed one, and ``LevelNVariance``,
        the variance of the warped image.
        """
        fixed, moving = self.pair.fixed.image.float(), self.pair.moving.image.float()
        count = len(self.network.levels)
        apart, first, second = ([torch.zeros_like(fixed) for _ in range(count)] for _ in range(3))
        base: list[Tensor] = []
        for draw in range(self.options.samples):
            drop = _dropout(self.options.dropout, context.generator)
            found = self.network.synthesise(
                list(features), self.shape, self.pair.fixed.mask, drop=drop
            )
            for place, level in enumerate(found.levels):
                number = count - 1 - place
                warped = warp(moving, self._field(level, number))
                apart[number] += (warped - fixed).square_()
                if draw == 0:
                    base.append(warped)  # differences from the first draw keep their digits
                else:
                    off = warped - base[place]
                    first[number] += off
                    second[number] += off.square_()
            context.report(draw + 1, self.options.samples)
        n = self.options.samples
        for number in range(count):
            variance = (second[number] - first[number].square() / n).clamp_(min=0) / (n - 1)
            self.extras[f"Level{number}Uncertainty"] = Extra(apart[number] / n, "map")
            self.extras[f"Level{number}Variance"] = Extra(variance, "map")

    def _entropy(self, number: int, fixed: Tensor, moving: Tensor) -> None:
        """Normalised entropy of the rows of A_FM, 0 sharp to 1 flat (METHODS 7.5 b)."""
        attention = self.network.level(number).attention
        if attention is not None:
            self._map(f"Level{number}Entropy", attention.rows(fixed, moving), number)

    def _field(self, level: Tensor, number: int) -> Tensor:
        """A level's displacement (B, 3, *S) in voxels of the images."""
        with torch.autocast(level.device.type, enabled=False):
            return cropped(enlarged(level, self.network.stem * 2**number), self.shape)

    def _map(self, name: str, values: Tensor, number: int) -> None:
        wide = functional.interpolate(
            values.float(),
            scale_factor=float(self.network.stem * 2**number),
            mode="trilinear",
            align_corners=False,
        )
        self.extras[name] = Extra(cropped(wide, self.shape), "map")


def _dropout(rate: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Dropout of whole channels that draws from ``generator``."""

    def drop(maps: Tensor) -> Tensor:
        size = (*maps.shape[:2], 1, 1, 1)
        kept = torch.rand(size, generator=generator, device=maps.device) >= rate
        return maps * (kept.to(maps.dtype) / (1 - rate))

    return drop
