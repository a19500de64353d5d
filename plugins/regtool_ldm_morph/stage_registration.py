"""Third stage: the registration network learns over the frozen encoder and features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.train import Context, Pair, Prediction, StepOutput, warp
from regtool_ldm_morph.earlier_run import finished_stages
from regtool_ldm_morph.encoder import LatentEncoder
from regtool_ldm_morph.loss import HierarchicalLoss
from regtool_ldm_morph.model import LDMMorph
from regtool_ldm_morph.stage_diffusion import DiffusionTraining, encoder_state


class RegistrationTraining(nn.Module):
    """The model as it is exported, and the encoder beside it where only the loss needs one."""

    def __init__(self, network: Mapping[str, Any], latent_loss: bool) -> None:
        super().__init__()
        self.registrar = LDMMorph(network)
        if latent_loss and not network["features"]:
            self.encoder = LatentEncoder(network["autoencoder"])

    def forward(self, pair: Pair, options: Any, context: Context) -> Prediction:
        """Register a pair, as the exported model does."""
        return self.registrar(pair, options, context)

    @property
    def latent_encoder(self) -> nn.Module | None:
        """The frozen encoder, wherever it is."""
        own = getattr(self, "encoder", None)
        return own if own is not None else getattr(self.registrar, "encoder", None)


class RegistrationStage:
    """How the stage's module is built and trained; ``freezes`` names what stays as it is."""

    def __init__(self, network: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.loss = HierarchicalLoss(settings)
        self.features = bool(network["features"])
        self.latent_loss = self.loss.latent_weight > 0
        self.second_look = float(settings.get("second_look", 0.0))  # absent in older runs
        self.earlier_run: str | None = settings["earlier_run"]

    @property
    def freezes(self) -> tuple[str, ...]:
        """Name prefixes of the frozen parts."""
        if self.features:
            return ("registrar.encoder", "registrar.denoiser")
        return ("encoder",) if self.latent_loss else ()

    def build(self, config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        """A new registration network over the finished parts of the first two stages."""
        module = RegistrationTraining(config["network"], self.latent_loss)
        if self.earlier_run and self.freezes:
            upstream = finished_stages(self.earlier_run, config["network"])
        encoder = module.latent_encoder
        if encoder is not None:
            encoder.load_state_dict(encoder_state(upstream))
        if self.features:
            second = upstream["diffusion"]
            assert isinstance(second, DiffusionTraining)
            module.registrar.denoiser.load_unet(second.unet.state_dict())
        return module

    def step(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        """The hierarchical loss of one batch.

        With probability ``second_look`` the batch is what a second pass would see: the moving
        images as the network itself warps them.
        """
        assert isinstance(module, RegistrationTraining)
        moving, fixed = pair.moving.image, pair.fixed.image
        draw = context.generator
        if self.second_look and _happens(self.second_look, draw):
            with torch.no_grad():
                u, _ = module.registrar.register(moving, fixed, draw)
                moving = warp(moving, u.float(), padding="zeros")
        u, latents = module.registrar.register(moving, fixed, draw)
        fixed_latent: Tensor | None = latents.fixed if latents is not None else None
        terms = self.loss.terms(u, moving, fixed, module.latent_encoder, fixed_latent)
        return StepOutput(terms, Prediction(displacement=u))


def _happens(probability: float, generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator, device=generator.device) < probability)
