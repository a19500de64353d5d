"""From images to latents: the frozen half of the autoencoder that registration needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool_ldm_morph.blocks import Encoder


class LatentEncoder(nn.Module):
    """Images (B, 1, H, W) in [0, 1] to latents (B, C, H / 4, W / 4) *before* quantisation.

    H and W are halved between the levels of ``widths``. Latents are divided by ``spread`` when the
    settings say ``rescale``, so that the diffusion model sees a standard deviation of one;
    otherwise they are as the encoder gives them (the paper's scale factor 1).
    """

    spread: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        channels = settings["channels"]
        self.encoder = Encoder(
            channels,
            settings["widths"],
            settings["layers"],
            settings["groups"],
            settings["attention"],
        )
        self.quant_conv = nn.Conv2d(channels, channels, 1)
        self.rescale = bool(settings["rescale"])
        self.register_buffer("spread", torch.ones((), dtype=torch.float32))

    def forward(self, image: Tensor) -> Tensor:
        z = self.quant_conv(self.encoder(image)).float()
        return z / self.spread if self.rescale else z
