"""Third stage: the registration network learns over the frozen encoder and features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from regtool.api.refine import teacher_distance
from regtool.api.train import Context, Pair, Prediction, StepOutput, chance, second_look, whole_way
from regtool_ldm_morph.earlier_run import (
    check_earlier_run,
    finished_stages,
    frozen_parts,
    load_part,
)
from regtool_ldm_morph.encoder import LatentEncoder
from regtool_ldm_morph.loss import HierarchicalLoss
from regtool_ldm_morph.model import FROZEN, LDMMorph
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
    """How the stage's module is built and trained; ``freezes`` names what stays as it is.

    Raises UsageError or InputError for settings that cannot be carried out.
    """

    def __init__(self, network: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.loss = HierarchicalLoss(settings)
        self.features = bool(network["features"])
        self.latent_loss = self.loss.latent_weight > 0
        self.second_look = float(settings.get("second_look", 0.0))  # absent in older runs
        self.teacher = float(settings.get("teacher", 0.0))
        earlier = settings["earlier_run"]
        self.earlier_run = str(earlier) if earlier else None
        if self.earlier_run and self.freezes:
            check_earlier_run(self.earlier_run, self.features)

    @property
    def freezes(self) -> tuple[str, ...]:
        """Name prefixes of the frozen parts."""
        if self.features:
            return tuple(f"registrar.{part}" for part in FROZEN)
        return ("encoder",) if self.latent_loss else ()

    def build(self, config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        """A new registration network over the finished parts of the first two stages."""
        module = RegistrationTraining(config["network"], self.latent_loss)
        encoder = module.latent_encoder
        if self.earlier_run and self.freezes:
            ready = frozen_parts(self.earlier_run)
            if ready is not None:
                if encoder is not None:
                    load_part(encoder, ready, "encoder", self.earlier_run)
                if self.features:
                    load_part(module.registrar.denoiser, ready, "denoiser", self.earlier_run)
                return module
            upstream = finished_stages(self.earlier_run, config["network"])
        if encoder is not None:
            encoder.load_state_dict(encoder_state(upstream))
        if self.features:
            second = upstream["diffusion"]
            assert isinstance(second, DiffusionTraining)
            module.registrar.denoiser.load_unet(second.unet.state_dict())
        return module

    def step(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        """The hierarchical loss of one batch, perhaps with less motion than was recorded.

        With probability ``second_look`` the batch is what a second pass would see: the moving
        images as the network itself warps them. Both terms compare the images as they were before
        training invented contrasts, the features see what it made of them.
        A positive ``teacher`` weights the distance (voxels) from what instance optimisation
        finds for the batch: no labels either, but its fields are fluid where the energy of a
        displacement or velocity keeps the network's short of the images.
        """
        assert isinstance(module, RegistrationTraining)
        draw, before = context.generator, None
        if chance(draw, self.second_look):
            with torch.no_grad():
                first = module.registrar.register(pair.moving.image, pair.fixed.image, draw)
                before = first.displacement.float()
                pair = second_look(pair, before)
        found = module.registrar.register(pair.moving.image, pair.fixed.image, draw)
        fixed_latent = None
        if found.latents is not None and pair.fixed.original is None:
            fixed_latent = found.latents.fixed
        u, field = found.displacement, found.field
        compared = pair.moving.compared, pair.fixed.compared
        terms = self.loss.terms(u, *compared, module.latent_encoder, fixed_latent, field)
        if self.teacher > 0:
            terms["teacher"] = self.teacher * teacher_distance(u, pair, context)
        return StepOutput(terms, Prediction(displacement=whole_way(before, u)))
