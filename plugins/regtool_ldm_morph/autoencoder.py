"""The autoencoder (VQGAN) whose latents the diffusion model works on, over diffusers.

Paper: Esser et al., "Taming Transformers", CVPR 2021; LDM-Morph's has one latent channel and
16,384 scalar codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor, nn


def _down(settings: Mapping[str, Any]) -> tuple[str, ...]:
    levels = len(settings["widths"])
    last = "AttnDownEncoderBlock2D" if settings["attention"] else "DownEncoderBlock2D"
    return (*["DownEncoderBlock2D"] * (levels - 1), last)


class Autoencoder(nn.Module):
    """The whole VQGAN and the running standard deviation of its latents."""

    spread: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        down = _down(settings)
        up = tuple(
            name.replace("Down", "Up").replace("Encoder", "Decoder") for name in reversed(down)
        )
        self.vq = VQModel(
            in_channels=1,
            out_channels=1,
            down_block_types=down,
            up_block_types=up,
            block_out_channels=tuple(settings["widths"]),
            layers_per_block=settings["layers"],
            latent_channels=settings["channels"],
            num_vq_embeddings=settings["codes"],
            norm_num_groups=settings["groups"],
            scaling_factor=1.0,
        )
        self.register_buffer("spread", torch.ones((), dtype=torch.float32))

    def encode(self, image: Tensor) -> Tensor:
        """Latents (B, C, H / 4, W / 4) before quantisation, not rescaled, float32."""
        return self.vq.encode(image).latents.float()

    def decode(self, z: Tensor, quantise: bool) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W) from latents, through the codes or around them; the code loss.

        The loss is diffusers': codes towards latents times 0.25, latents towards codes times 1,
        the order of the base library that the official code inherits.
        """
        if not quantise:
            return self.vq.decoder(self.vq.post_quant_conv(z)), z.new_zeros(())
        with torch.autocast(z.device.type, enabled=False):  # distances of close codes need digits
            codes, loss, _ = self.vq.quantize(z.float())
        return self.vq.decoder(self.vq.post_quant_conv(codes)), loss

    @torch.no_grad()
    def observe(self, z: Tensor, momentum: float = 0.02) -> None:
        """Let the running standard deviation follow a batch of latents."""
        self.spread.lerp_(z.detach().float().std().clamp(min=1e-6), momentum)

    @torch.no_grad()
    def spread_codes(self, z: Tensor, generator: torch.Generator) -> None:
        """Start the codes where the latents are: their quantiles, or a random choice of vectors.

        Codes drawn from +-1 / number, the library's start, collapse easily when they are scalars.
        """
        table = self.vq.quantize.embedding.weight
        values = z.detach().float().movedim(1, -1).flatten(0, -2)
        if table.shape[1] == 1:
            ordered = values[:, 0].sort().values
            at = torch.linspace(0, len(ordered) - 1, len(table), device=z.device)
            low = at.floor().long()
            high = (low + 1).clamp(max=len(ordered) - 1)
            table.copy_(torch.lerp(ordered[low], ordered[high], at - low)[:, None])
            return
        chosen = torch.randint(len(values), (len(table),), generator=generator, device=z.device)
        table.copy_(values[chosen])

    def encoder_state(self) -> dict[str, Tensor]:
        """The weights that a ``LatentEncoder`` of the same settings loads."""
        prefixes = ("encoder.", "quant_conv.")
        state = {k: v for k, v in self.vq.state_dict().items() if k.startswith(prefixes)}
        return {**state, "spread": self.spread}
