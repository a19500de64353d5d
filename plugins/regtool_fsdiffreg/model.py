"""FSDiffReg whole: the diffusion model, the registration decoder, registration at t = 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Extra, Pair, Prediction
from regtool.api.diffusion import SR3
from regtool.api.nn import ScoreNetwork, cropped, pad_to_multiple
from regtool.api.spatial import cascade, integrate
from regtool_fsdiffreg.decoder import Fields, RegistrationDecoder
from regtool_fsdiffreg.options import FSDiffRegOptions

SCHEDULE = SR3


@dataclass
class Look:
    """What one pass gives, in voxels on the images' own grid.

    ``field`` (B, ndim, *S) is the mean of all fields: the displacement itself, or the velocity that
    was integrated to it. ``noise`` (B, 1, *S) is the score map; ``padded_noise`` and ``fields`` are
    on the grid that the network saw.
    """

    displacement: Tensor
    field: Tensor
    noise: Tensor
    padded_noise: Tensor
    fields: Fields


class FSDiffReg(nn.Module):
    """The network of Qin and Li (MICCAI 2023); maps images from [0, 1] to [-1, 1] itself.

    ``score``: arguments of ``ScoreNetwork``. ``fdg`` off takes the feature-wise guidance away.
    ``integrate`` 0: the mean of the fields is the displacement, as published; N: a stationary
    velocity, integrated in N squarings.
    """

    def __init__(
        self,
        ndim: int,
        score: Mapping[str, Any],
        fdg: bool = True,
        flow_init: float | None = None,
        integrate: int = 0,
    ) -> None:
        super().__init__()
        self.score = ScoreNetwork(ndim, **score)
        self.registration = RegistrationDecoder(ndim, self.score, fdg, flow_init)
        self.multiple = 2 ** sum(block.grows for block in self.score.plan)
        self.squarings = integrate

    def prepared(self, image: Tensor) -> Tensor:
        """An image (B, 1, *S) from [0, 1] to [-1, 1], padded to sizes that the network halves."""
        return 2 * pad_to_multiple(image, self.multiple)[0] - 1

    def look(
        self, moving: Tensor, fixed: Tensor, state: Tensor | None = None, t: Tensor | None = None
    ) -> Look:
        """One pass over images (B, 1, *S) in [0, 1].

        ``state`` is the noisy fixed image as ``prepared`` gives it, at steps ``t`` (B,); without
        them it is the clean one at step 0, as for a registration.
        """
        shape = tuple(fixed.shape[2:])
        m, f = self.prepared(moving), self.prepared(fixed)
        if state is None or t is None:
            state, t = f, torch.zeros(1, dtype=torch.int64, device=f.device)
        scored = self.score.scored(torch.cat([m, f, state], 1), t)
        fields = self.registration(scored)
        field = self.registration.mean(fields)
        u = field
        if self.squarings:
            with torch.autocast(field.device.type, enabled=False):
                u = integrate(field, self.squarings)
        noise = scored.noise
        return Look(cropped(u, shape), cropped(field, shape), cropped(noise, shape), noise, fields)

    def forward(self, pair: Pair, options: FSDiffRegOptions, context: Context) -> Prediction:
        """Register a pair in ``options.passes`` passes; nothing is drawn at random.

        One pass is the paper's, more are ``cascade``. Extras: ``Scale1Warp`` to ``Scale9Warp``
        (``Scale1Velocity`` to ``Scale9Velocity`` where a velocity is integrated), the fields from
        coarse to fine whose mean is the first pass's ``Look.field``; ``Score`` and ``Weight``, the
        predicted noise S and ``sigmoid(S) ** options.gamma``.
        """
        moving, fixed = pair.moving.image, pair.fixed.image
        looks: list[Look] = []

        def look(image: Tensor) -> Tensor:
            looks.append(self.look(image, fixed))
            return looks[-1].displacement

        prediction = Prediction(displacement=cascade(look, moving, options.passes))
        first = looks[0]
        extras, shape = prediction.extras, tuple(fixed.shape[2:])
        if options.fields:
            kind = "Velocity" if self.squarings else "Warp"
            for number, field in enumerate(self.registration.each(first.fields), start=1):
                extras[f"Scale{number}{kind}"] = Extra(cropped(field, shape), "field")
        if options.score:
            extras["Score"] = Extra(first.noise, "map")
            extras["Weight"] = Extra(score_weight(first.noise, options.gamma), "map")
        return prediction


def score_weight(noise: Tensor, gamma: float) -> Tensor:
    """``sigmoid(S) ** gamma``: how much each voxel's similarity counts (METHODS 4.3)."""
    return noise.float().sigmoid() ** gamma


def build(config: Mapping[str, Any]) -> FSDiffReg:
    """Build FSDiffReg from a preset or a weights folder's config.json."""
    return FSDiffReg(config["ndim"], **config["network"])
