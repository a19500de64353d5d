"""Noise schedules and diffusion steps for plugins; imports torch, diffusers when it is used."""

from __future__ import annotations

from regtool.diffusion.draw import Draw, draw
from regtool.diffusion.energies import Direction, Energy, Organ, OrganImages, Smoothness
from regtool.diffusion.guidance import Steering
from regtool.diffusion.noise import NoiseSource
from regtool.diffusion.sampling import (
    Best,
    Denoiser,
    Guidance,
    Look,
    Observer,
    Sampled,
    Sampling,
    Saved,
    Step,
    Warm,
    sample,
)
from regtool.diffusion.scale import FieldScale
from regtool.diffusion.schedule import SR3, NoiseSchedule, add_noise
from regtool.diffusion.steps import (
    ddim_inversion,
    ddim_step,
    ddpm_step,
    predicted_clean,
    respaced,
    respaced_step,
)

__all__ = [
    "SR3",
    "Best",
    "Denoiser",
    "Direction",
    "Draw",
    "Energy",
    "FieldScale",
    "Guidance",
    "Look",
    "NoiseSchedule",
    "NoiseSource",
    "Observer",
    "Organ",
    "OrganImages",
    "Sampled",
    "Sampling",
    "Saved",
    "Smoothness",
    "Steering",
    "Step",
    "Warm",
    "add_noise",
    "ddim_inversion",
    "ddim_step",
    "ddpm_step",
    "draw",
    "predicted_clean",
    "respaced",
    "respaced_step",
    "sample",
]
