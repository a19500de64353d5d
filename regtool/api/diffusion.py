"""Noise schedules, diffusion steps, sampling and steering for plugins; imports torch.

``sample_field`` with ``regtool.api.sampling.SamplingOptions`` is all that a method which samples
its field needs; ``sample``, ``Steering`` and ``Watch`` are its parts.
"""

from __future__ import annotations

from regtool.diffusion.draw import Draw, draw
from regtool.diffusion.energies import Direction, Energy, Organ, OrganImages, Smoothness
from regtool.diffusion.guidance import Steering
from regtool.diffusion.noise import NoiseSource
from regtool.diffusion.observation import SCORES, Plateau, Watch, deviation
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
from regtool.engine.sampling.run import sample_field
from regtool.engine.sampling.steering import steering_of

__all__ = [
    "SCORES",
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
    "Plateau",
    "Sampled",
    "Sampling",
    "Saved",
    "Smoothness",
    "Steering",
    "Step",
    "Warm",
    "Watch",
    "add_noise",
    "ddim_inversion",
    "ddim_step",
    "ddpm_step",
    "deviation",
    "draw",
    "predicted_clean",
    "respaced",
    "respaced_step",
    "sample",
    "sample_field",
    "steering_of",
]
