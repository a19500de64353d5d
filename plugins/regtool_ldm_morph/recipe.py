"""The three stages of LDM-Morph's training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api.train import Optimiser, Schedule, Stage
from regtool_ldm_morph import stage_diffusion
from regtool_ldm_morph.model import check_network
from regtool_ldm_morph.stage_autoencoder import CRITIC, AutoencoderStep, AutoencoderTraining
from regtool_ldm_morph.stage_registration import RegistrationStage


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Autoencoder, latent diffusion, registration; stages that nothing would use are left out.

    Without diffusion features (``network.features`` off) the second stage goes, and with beta 1 the
    first, too. ``earlier_run`` takes both from the folder of a run that trained them. Raises
    UsageError for words that nothing knows, InputError where files that are named are missing.
    """
    network, settings = preset["network"], preset["training"]
    check_network(network)
    last = RegistrationStage(network, settings)
    stages = [_registration(last, settings)]
    if last.earlier_run:
        return tuple(stages)
    if last.features:
        stages.insert(0, _diffusion(settings["stages"]["diffusion"]))
    if last.freezes:
        stages.insert(0, _autoencoder(settings["stages"]["autoencoder"]))
    return tuple(stages)


def _autoencoder(settings: Mapping[str, Any]) -> Stage:
    rate = float(settings["lr"])
    momenta = {"betas": (0.5, 0.9)}
    first = Optimiser(lr=rate, parameters=("autoencoder",), arguments=momenta)
    critic = Optimiser(lr=rate, name=CRITIC, parameters=("critic",), arguments=momenta)

    def make(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        return AutoencoderTraining(config["network"], settings)

    return Stage(
        name="autoencoder",
        build=make,
        step=AutoencoderStep(settings),
        optimisers=(first, critic) if settings["gan"] else (first,),
        steps=int(settings["steps"]),
        batch=int(settings["batch"]),
        registers=False,
    )


def _diffusion(settings: Mapping[str, Any]) -> Stage:
    return Stage(
        name="diffusion",
        build=stage_diffusion.build,
        step=stage_diffusion.step,
        optimisers=(Optimiser(lr=float(settings["lr"]), kind="AdamW"),),
        steps=int(settings["steps"]),
        batch=int(settings["batch"]),
        ema=settings["ema"],
        freezes=("encoder",),
        registers=False,
    )


def _registration(stage: RegistrationStage, settings: Mapping[str, Any]) -> Stage:
    optimiser = Optimiser(
        lr=float(settings["lr"]),
        schedule=Schedule(**settings["schedule"]),
        clip_norm=settings.get("clip"),  # absent in older runs
    )
    return Stage(
        name="registration",
        build=stage.build,
        step=stage.step,
        optimisers=(optimiser,),
        steps=int(settings["steps"]),
        batch=int(settings["batch"]),
        ema=settings["ema"],
        freezes=stage.freezes,
    )
