"""Everything a training recipe is written with, in one place; imports torch."""

from __future__ import annotations

from regtool.api.losses import (
    bending_energy,
    diffusion,
    local_ncc,
    masked_mean,
    mse,
    soft_dice,
    velocity_kl,
)
from regtool.api.spatial import integrate, warp
from regtool.plugins.exchange import Context, Pair, Prediction, Sample
from regtool.plugins.slices_first import registration_stages
from regtool.plugins.training import Optimiser, Schedule, Stage, StepOutput
from regtool.plugins.training_aids import UNITS, chance, choice, roughness, second_look, whole_way

__all__ = [
    "UNITS",
    "Context",
    "Optimiser",
    "Pair",
    "Prediction",
    "Sample",
    "Schedule",
    "Stage",
    "StepOutput",
    "bending_energy",
    "chance",
    "choice",
    "diffusion",
    "integrate",
    "local_ncc",
    "masked_mean",
    "mse",
    "registration_stages",
    "roughness",
    "second_look",
    "soft_dice",
    "velocity_kl",
    "warp",
    "whole_way",
]
