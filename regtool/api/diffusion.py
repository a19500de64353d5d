"""Noise schedules and diffusion steps for plugins; imports torch and diffusers."""

from __future__ import annotations

from regtool.diffusion.schedule import add_noise, noise_schedule, signal_level
from regtool.diffusion.steps import ddim_inversion, ddim_step, ddpm_step, predicted_clean

__all__ = [
    "add_noise",
    "ddim_inversion",
    "ddim_step",
    "ddpm_step",
    "noise_schedule",
    "predicted_clean",
    "signal_level",
]
