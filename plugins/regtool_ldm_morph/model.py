"""LDM-Morph whole: frozen encoder and diffusion features before the registration network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Pair, Prediction
from regtool.api.diffusion import add_noise, ddim_inversion
from regtool.api.nn import pad_to_multiple
from regtool.api.spatial import cascade, integrate
from regtool.api.train import choice
from regtool_ldm_morph.denoiser import SCHEDULE, Denoiser, tap_channels
from regtool_ldm_morph.encoder import LatentEncoder
from regtool_ldm_morph.lgca import SECOND_BLOCKS
from regtool_ldm_morph.network import MULTIPLE, RegistrationNetwork

FROZEN = ("encoder", "denoiser")
"""Parts that come from the first two stages and stay as they are."""

NOISES = ("shared", "fresh", "ddim_inversion", "none")
"""What ``network.noise`` may be."""


def check_network(network: Mapping[str, Any]) -> None:
    """Refuse words that the network does not know. Raises UsageError."""
    choice(network, "noise", NOISES, within="network")
    choice(network, "second_block", SECOND_BLOCKS, within="network")


@dataclass
class Latents:
    """Latents (B, C, h, w) of both images of a pair; absent without diffusion features."""

    moving: Tensor
    fixed: Tensor


@dataclass
class Answer:
    """What one pass gives, fields (B, 2, H, W) in voxels.

    ``field`` is what the network puts out: the displacement itself (the paper), or, where the
    preset's ``network.integrate`` is not 0, a stationary velocity that was integrated in that many
    squarings. ``latents`` belong to the images padded to a multiple of 32 and carry no gradient.
    """

    displacement: Tensor
    field: Tensor
    latents: Latents | None


class LDMMorph(nn.Module):
    """Everything that registers: nothing of the decoder, the codes or the U-Net's way up.

    With ``features`` off only the registration network is left.
    """

    def __init__(self, network: Mapping[str, Any]) -> None:
        super().__init__()
        check_network(network)
        self.noise, self.time = network["noise"], int(network["time"])
        self.squarings = int(network.get("integrate", 0))  # absent in older weights
        taps = None
        if network["features"]:
            self.encoder = LatentEncoder(network["autoencoder"])
            self.denoiser = Denoiser(
                network["diffusion"],
                network["autoencoder"]["channels"],
                whole=self.noise == "ddim_inversion",
            )
            taps = [2 * channels for channels in tap_channels(network["diffusion"]["widths"])]
        self.registration = RegistrationNetwork(
            network["registration"],
            taps,
            cross_attention=network["cross_attention"],
            second_block=network["second_block"],
        )
        self.sees_latents = taps is not None

    def register(
        self, moving: Tensor, fixed: Tensor, generator: torch.Generator, noise: str = "trained"
    ) -> Answer:
        """One pass over images (B, 1, H, W) in [0, 1], any size."""
        moving, crop = pad_to_multiple(moving, MULTIPLE)
        fixed, _ = pad_to_multiple(fixed, MULTIPLE)
        latents, features = None, []
        if self.sees_latents:
            with torch.no_grad():
                latents = Latents(*self.encoder(torch.cat([moving, fixed])).chunk(2))
                features = self.features(latents, generator, noise)
        field = self.registration(moving, fixed, features)
        u = integrate(field, self.squarings) if self.squarings else field
        return Answer(crop(u), crop(field), latents)

    def features(
        self, latents: Latents, generator: torch.Generator, noise: str = "trained"
    ) -> list[Tensor]:
        """Features of both images at each level, the moving one's first."""
        kind = self.noise if noise == "trained" else noise
        both = torch.cat(self._noisy(latents, kind, generator))
        return [torch.cat(level.chunk(2), 1) for level in self.denoiser.features(both, self.time)]

    def _noisy(
        self, latents: Latents, kind: str, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        pair = latents.moving, latents.fixed
        if kind == "none":
            return pair
        if kind == "ddim_inversion":
            predict = self.denoiser.noise
            moving, fixed = (ddim_inversion(SCHEDULE, predict, z, self.time) for z in pair)
            return moving, fixed
        # At registration one pattern serves all slices: a slice's field does not depend on which
        # others are registered with it.
        patterns = [self._pattern(pair[0], generator)]
        patterns.append(self._pattern(pair[0], generator) if kind == "fresh" else patterns[0])
        moving, fixed = (
            add_noise(SCHEDULE, z, pattern, self.time)
            for z, pattern in zip(pair, patterns, strict=True)
        )
        return moving, fixed

    def _pattern(self, z: Tensor, generator: torch.Generator) -> Tensor:
        count = z.shape[0] if self.training else 1
        shape = (count, *z.shape[1:])
        return torch.randn(shape, generator=generator, device=z.device, dtype=torch.float32)

    def forward(self, pair: Pair, options: Any, context: Context) -> Prediction:
        """Register a pair in ``options.passes`` passes; ``options.noise`` is what features see.

        One pass is the paper's, more are ``cascade``.
        """
        fixed, draw, noise = pair.fixed.image, context.generator, options.noise

        def look(image: Tensor) -> Tensor:
            return self.register(image, fixed, draw, noise).displacement

        return Prediction(displacement=cascade(look, pair.moving.image, options.passes))


def build(config: Mapping[str, Any]) -> LDMMorph:
    """Build LDM-Morph from a preset or a weights folder's config.json."""
    return LDMMorph(config["network"])
