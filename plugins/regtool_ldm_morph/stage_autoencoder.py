"""First stage: the autoencoder learns to reproduce single images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.nn import pad_to_multiple
from regtool.api.train import Context, Pair, StepOutput, choice
from regtool_ldm_morph.autoencoder import Autoencoder
from regtool_ldm_morph.critic import PatchCritic, adaptive_weight, hinge
from regtool_ldm_morph.lpips import check_lpips, load_lpips
from regtool_ldm_morph.network import MULTIPLE

CRITIC = "critic"
RECONSTRUCTIONS = ("l1", "l1+gradient")


def all_images(pair: Pair) -> Tensor:
    """Both images of each pair as one batch (2 B, 1, H, W), padded to sizes the networks take."""
    return pad_to_multiple(torch.cat([pair.fixed.image, pair.moving.image]), MULTIPLE)[0]


class AutoencoderTraining(nn.Module):
    """The autoencoder, the critic if there is one, and LPIPS outside the module's state."""

    def __init__(self, network: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(network["autoencoder"])
        if settings["gan"]:
            self.critic = PatchCritic()
        path = settings["lpips"]
        # In a tuple, so that checkpoints do not repeat 15 M weights that never change.
        self._perceptual = (load_lpips(path),) if path else ()

    def perceptual(self, fixed: Tensor, found: Tensor) -> Tensor | None:
        """LPIPS of two batches, or None where it is not used."""
        for network in self._perceptual:
            return network.to(fixed.device)(fixed, found)
        return None


class AutoencoderStep:
    """One step: ``L1 + LPIPS + code_weight * codes + weight * adversarial`` (Esser et al., 2021).

    ``quantise_from`` steps go around the codes first; with ``codes_from_data`` the codes start at
    the latents of the step that follows. ``reconstruction`` ``l1+gradient`` adds the L1 distance
    of forward differences, which keeps edges without LPIPS. The critic and its term, scaled by the
    adaptive weight times ``gan_weight``, come in at step ``gan_from``.

    Raises UsageError for another ``reconstruction``, InputError where the file of ``lpips`` is
    missing.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        choice(settings, "reconstruction", RECONSTRUCTIONS, within="stages.autoencoder")
        if settings["lpips"]:
            check_lpips(str(settings["lpips"]))

    def __call__(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        assert isinstance(module, AutoencoderTraining)
        images = all_images(pair)
        if context.optimiser == CRITIC:
            return StepOutput(self._critic(module, images, context))
        found, code_loss = self._reproduce(module, images, context)
        terms = {"reconstruction": (found - images).abs().mean()}
        if self.settings["reconstruction"] == "l1+gradient":
            terms["gradient"] = _gradient_l1(images, found)
        perceptual = module.perceptual(images, found)
        if perceptual is not None:
            terms["lpips"] = float(self.settings["lpips_weight"]) * perceptual
        if self.settings["quantiser"]:
            terms["codes"] = float(self.settings["code_weight"]) * code_loss
        if self.settings["gan"] and context.step >= self.settings["gan_from"]:
            terms["adversarial"] = self._adversarial(module, found, terms)
        return StepOutput(terms)

    def _reproduce(
        self, module: AutoencoderTraining, images: Tensor, context: Context
    ) -> tuple[Tensor, Tensor]:
        model, settings = module.autoencoder, self.settings
        z = model.encode(images)
        start = int(settings["quantise_from"])
        learns = torch.is_grad_enabled() and model.training
        if learns and context.optimiser != CRITIC:
            model.observe(z, momentum=1.0 if context.step == 0 else 0.02)
            if settings["codes_from_data"] and context.step == start:
                model.spread_codes(z, context.generator)
        # Before its codes have been set, a validation at the same step goes around them too.
        begun = context.step >= start if learns else context.step > start or start == 0
        found, loss = model.decode(z, bool(settings["quantiser"]) and begun)
        return found.float(), loss.float()

    def _critic(
        self, module: AutoencoderTraining, images: Tensor, context: Context
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            found, _ = self._reproduce(module, images, context)
        loss = hinge(module.critic(images).float(), module.critic(found).float())
        return {"hinge": loss if context.step >= self.settings["gan_from"] else 0.0 * loss}

    def _adversarial(
        self, module: AutoencoderTraining, found: Tensor, terms: Mapping[str, Tensor]
    ) -> Tensor:
        loss = -module.critic(found).float().mean()
        weight = float(self.settings["gan_weight"])
        last = module.autoencoder.vq.decoder.conv_out.weight
        if torch.is_grad_enabled() and last.requires_grad:
            likeness = torch.stack([v for k, v in terms.items() if k != "codes"]).sum()
            return weight * adaptive_weight(likeness, loss, last) * loss
        return weight * loss


def _gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    steps = [(torch.diff(a, dim=axis) - torch.diff(b, dim=axis)).abs().mean() for axis in (2, 3)]
    return torch.stack(steps).sum()
