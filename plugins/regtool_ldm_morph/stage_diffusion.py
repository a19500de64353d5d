"""Second stage: the U-Net learns to see the noise in latents of the frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.diffusion import add_noise
from regtool.api.train import Context, Pair, StepOutput, mse
from regtool_ldm_morph.denoiser import SCHEDULE, build_unet
from regtool_ldm_morph.encoder import LatentEncoder
from regtool_ldm_morph.stage_autoencoder import AutoencoderTraining, all_images


class DiffusionTraining(nn.Module):
    """The whole U-Net and the encoder of the first stage."""

    def __init__(self, network: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = LatentEncoder(network["autoencoder"])
        self.unet = build_unet(network["diffusion"], network["autoencoder"]["channels"])


def build(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
    """The U-Net over the finished encoder."""
    module = DiffusionTraining(config["network"])
    module.encoder.load_state_dict(encoder_state(upstream))
    return module


def encoder_state(upstream: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The encoder's weights from the finished first stage."""
    first = upstream["autoencoder"]
    assert isinstance(first, AutoencoderTraining)
    return first.autoencoder.encoder_state()


def step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
    """Mean squared error of the predicted noise at random steps (Ho et al., 2020, equation 14)."""
    assert isinstance(module, DiffusionTraining)
    with torch.no_grad():
        z = module.encoder(all_images(pair))
    draw = context.generator
    t = torch.randint(
        SCHEDULE.steps, (z.shape[0],), generator=draw, device=z.device, dtype=torch.int64
    )
    noise = torch.randn(z.shape, generator=draw, device=z.device, dtype=torch.float32)
    found = module.unet(add_noise(SCHEDULE, z, noise, t), t).sample
    return StepOutput({"noise": mse(noise, found.float())})
