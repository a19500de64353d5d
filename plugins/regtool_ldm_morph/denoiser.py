"""The latent diffusion U-Net over diffusers, and its feature half that registration needs.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022; sizes as
in LDM-Morph's released configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.diffusion import NoiseSchedule
from regtool_ldm_morph.blocks import FeatureHalf

SCHEDULE = NoiseSchedule("scaled_linear", 0.0015, 0.0195, 1000)
"""beta is the square of a line from sqrt(0.0015) to sqrt(0.0195) over 1000 steps."""

_TAPS = (0, 2)
"""Of the layers of a level (its entry, then the residual blocks) the first and the third."""


def build_unet(settings: Mapping[str, Any], channels: int) -> nn.Module:
    """The unconditional U-Net on latents of ``channels``; attention below the first level.

    Its last convolution starts at zero, so that an untrained network predicts no noise.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel

    widths = tuple(settings["widths"])
    deep = len(widths) - 1
    unet = UNet2DModel(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * deep),
        up_block_types=(*["AttnUpBlock2D"] * deep, "UpBlock2D"),
        block_out_channels=widths,
        layers_per_block=2,
        attention_head_dim=settings["head"],
        norm_num_groups=settings["groups"],
    )
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet


def tap_channels(widths: Sequence[int]) -> list[int]:
    """Channels of one image's features at each level: first and third layer together."""
    return [before + own for before, own in zip([widths[0], *widths[:-1]], widths, strict=True)]


class Denoiser(nn.Module):
    """The part of the U-Net that computes features: its stem, time embedding and way down.

    With ``whole`` it is diffusers' U-Net with its way up, which only DDIM inversion needs.
    """

    def __init__(self, settings: Mapping[str, Any], channels: int, whole: bool = False) -> None:
        super().__init__()
        self.unet: Any
        if whole:
            self.unet = build_unet(settings, channels)
        else:
            self.unet = FeatureHalf(
                channels, settings["widths"], settings["head"], settings["groups"]
            )

    def features(self, z: Tensor, t: int) -> list[Tensor]:
        """First and third layer of each level for latents (B, C, h, w) at step ``t``.

        Returns one tensor (B, channels, h / 2**level, w / 2**level) a level; h and w must be
        divisible by 8.
        """
        steps = torch.full((z.shape[0],), t, dtype=torch.int64, device=z.device)
        time = self.unet.time_embedding(self.unet.time_proj(steps))
        x = self.unet.conv_in(z)
        layers = [x]
        for block in self.unet.down_blocks:
            x, outputs = block(x, time)
            layers += outputs
        per_level = len(layers) // len(self.unet.down_blocks)
        levels = [layers[k : k + per_level] for k in range(0, len(layers), per_level)]
        return [torch.cat([level[k] for k in _TAPS], 1) for level in levels]

    def noise(self, z: Tensor, t: int) -> Tensor:
        """The noise that the whole U-Net sees in latents at step ``t``."""
        return self.unet(z, t).sample

    def load_unet(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a trained whole U-Net, or the part of them that is kept."""
        own = self.unet.state_dict()
        self.unet.load_state_dict({name: state[name] for name in own})
