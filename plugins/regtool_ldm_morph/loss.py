"""The hierarchical similarity of LDM-Morph: in pixels and, differentiably, in latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from regtool.api.losses import local_ncc, mse
from regtool.api.nn import pad_to_multiple
from regtool.api.train import choice, diffusion, warp
from regtool_ldm_morph.network import MULTIPLE

SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    # As instance optimisation has it: noise in flat windows does not pull.
    "ncc": partial(local_ncc, window=9, eps=1e-3, neutral=True),
}


class HierarchicalLoss:
    """``beta S(F, W) + (1 - beta) MSE(E(F), E(W)) + smoothness R(u)`` with W = M(x + u(x)).

    S is the mean squared difference (the paper) or the local correlation, E the frozen encoder
    before quantisation, R the mean squared forward difference of u in voxels. The paper's equations
    hold beta and 1 - beta once in the sum and again in its terms: ``double_beta`` squares both.

    Latents have no natural unit. ``latent_scale`` ``none`` takes them as they are (the paper);
    ``image`` multiplies the latent term by the variance of the fixed images over that of their
    latents, so that beta divides between two terms of one size.

    ``latent_grad`` on, the default, lets the latent term pull at the field through the encoder, as
    the paper describes. Off, it only shifts the value, as in the released code, where the encoder
    runs without gradients.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.similarity = SIMILARITIES[choice(settings, "similarity", SIMILARITIES)]
        power = 2 if settings["double_beta"] else 1
        beta = float(settings["beta"])
        self.pixel_weight, self.latent_weight = beta**power, (1 - beta) ** power
        self.latent_scale = choice(settings, "latent_scale", ("none", "image"))
        self.latent_grad = bool(settings["latent_grad"])
        self.smoothness = float(settings["smoothness"])

    def terms(
        self,
        u: Tensor,
        moving: Tensor,
        fixed: Tensor,
        encoder: nn.Module | None,
        fixed_latent: Tensor | None = None,
        velocity: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The weighted terms, scalars, for u (B, 2, H, W) in voxels and images (B, 1, H, W).

        ``encoder`` is needed where beta is below 1. ``fixed_latent`` saves its second pass. Where u
        was integrated from a ``velocity``, that is what has to be smooth.
        Raises ValueError when the encoder is missing.
        """
        warped = warp(moving, u)
        found = {"pixels": self.pixel_weight * self.similarity(fixed, warped)}
        if self.latent_weight > 0:
            if encoder is None:
                raise ValueError("the latent term (beta below 1) needs the encoder")
            found["latents"] = self.latent_weight * self._latent(
                warped, fixed, encoder, fixed_latent
            )
        found["smoothness"] = self.smoothness * diffusion(u if velocity is None else velocity)
        return found

    def _latent(
        self, warped: Tensor, fixed: Tensor, encoder: nn.Module, fixed_latent: Tensor | None
    ) -> Tensor:
        source = warped if self.latent_grad else warped.detach()
        found = encoder(pad_to_multiple(source, MULTIPLE)[0])
        if fixed_latent is None:
            fixed_latent = encoder(pad_to_multiple(fixed, MULTIPLE)[0])
        target = fixed_latent.detach().float()
        distance = mse(target, found.float())
        if self.latent_scale == "none":
            return distance
        return distance * fixed.var() / target.var().clamp(min=1e-6)
