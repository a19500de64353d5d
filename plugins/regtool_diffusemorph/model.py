"""DiffuseMorph whole: score network, deformation network, registration in one pass at t = 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Extra, Pair, Prediction
from regtool.api.diffusion import SR3
from regtool.api.nn import ScoreNetwork
from regtool.api.spatial import cascade, compose, integrate
from regtool_diffusemorph.field import FieldNetwork
from regtool_diffusemorph.images import prepared
from regtool_diffusemorph.options import DiffuseMorphOptions
from regtool_diffusemorph.synthesis import synthesise

SCHEDULE = SR3
"""beta grows linearly over 2000 steps (METHODS 2.6)."""


@dataclass
class Look:
    """What the networks see in one pass, padded: images in [-1, 1] and the noise they find."""

    moving: Tensor
    noise: Tensor


class DiffuseMorph(nn.Module):
    """Both networks. Images come in [0, 1] and are mapped to [-1, 1] here.

    ``integrate`` 0: the deformation network puts out the displacement, as published; N: a
    stationary velocity, integrated in N squarings.
    """

    def __init__(
        self, ndim: int, score: Mapping[str, Any], field: Mapping[str, Any], integrate: int = 0
    ) -> None:
        super().__init__()
        self.score = ScoreNetwork(ndim, **score)
        self.field = FieldNetwork(ndim, **field)
        self.squarings = integrate

    def noise(self, moving: Tensor, fixed: Tensor, state: Tensor, t: Tensor) -> Tensor:
        """The noise in ``state`` at steps ``t`` (B,) or (1,); all in [-1, 1] and padded."""
        return self.score(torch.cat([moving, fixed, state], 1), t)

    def deform(self, moving: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Displacement and the network's own field, for a moving image in [-1, 1], padded."""
        field = self.field(torch.cat([moving, noise], 1))
        if not self.squarings:
            return field, field
        with torch.autocast(field.device.type, enabled=False):
            return integrate(field, self.squarings), field

    def look(self, moving: Tensor, fixed: Tensor) -> Look:
        """The noise predicted at t = 0 with the clean fixed image where training has a noisy one.

        Images (B, 1, *S) in [0, 1].
        """
        (m, f), _ = prepared(moving, fixed)
        t = torch.zeros(1, dtype=torch.int64, device=m.device)
        return Look(m, self.noise(m, f, f, t))

    def way(self, looks: list[Look], eta: float, shape: tuple[int, ...]) -> Tensor:
        """Displacement (B, ndim, *shape) where every look's noise counts ``eta`` of itself.

        1 registers, 0 leaves the image nearly still (Kim et al. 2022, section 3.3).
        """
        window = (slice(None), slice(None), *(slice(0, size) for size in shape))
        fields = [self.deform(look.moving, eta * look.noise)[0][window] for look in looks]
        u = fields[0]
        for further in fields[1:]:
            u = compose(u, further)
        return u

    def looks(self, moving: Tensor, fixed: Tensor, passes: int) -> tuple[list[Look], Tensor]:
        """The looks of all passes over images (B, 1, *S) in [0, 1], and the whole displacement.

        One pass is the paper's, more are ``cascade``.
        """
        looks: list[Look] = []

        def look(image: Tensor) -> Tensor:
            looks.append(self.look(image, fixed))
            return self.way(looks[-1:], 1.0, tuple(fixed.shape[2:]))

        return looks, cascade(look, moving, passes)

    def forward(self, pair: Pair, options: DiffuseMorphOptions, context: Context) -> Prediction:
        """Register a pair; the trajectory and the synthetic image are extras.

        ``options.eta`` and each frame's share scale the noise that the looks of the whole way saw.
        """
        moving, fixed = pair.moving.image, pair.fixed.image
        shape = tuple(fixed.shape[2:])
        looks, u = self.looks(moving, fixed, options.passes)
        if options.eta != 1:
            u = self.way(looks, options.eta, shape)
        prediction = Prediction(displacement=u)
        if options.trajectory:
            frames = [self.way(looks, eta, shape) for eta in options.etas]
            prediction.extras["Trajectory"] = Extra(torch.stack(frames, 1), "trajectory")
        if options.synthesize:
            image = synthesise(self, SCHEDULE, moving, fixed, options.start, options.steps, context)
            prediction.extras["Synthetic"] = Extra(image, "image")
        return prediction


def build(config: Mapping[str, Any]) -> DiffuseMorph:
    """Build DiffuseMorph from a preset or a weights folder's config.json."""
    return DiffuseMorph(config["ndim"], **config["network"])
