"""Noise schedules: how much of the signal is left at each step of the forward process."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

Kind = Literal["linear", "scaled_linear", "cosine"]
_NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


def noise_schedule(
    kind: Kind = "linear", start: float = 1e-4, end: float = 0.02, steps: int = 1000
) -> DDPMScheduler:
    """A schedule of ``steps`` noise levels whose networks predict the noise.

    ``linear``: beta from ``start`` to ``end`` (Ho et al., NeurIPS 2020); ``scaled_linear``: the
    square of a line between their roots (Rombach et al., CVPR 2022); ``cosine``: Nichol and
    Dhariwal, ICML 2021, where ``start`` and ``end`` have no meaning. Nothing is clipped: latents,
    images of other ranges and fields are not confined to [-1, 1], the default of diffusers.
    """
    return DDPMScheduler(
        num_train_timesteps=steps,
        beta_start=start,
        beta_end=end,
        beta_schedule=_NAMES[kind],
        variance_type="fixed_small",
        clip_sample=False,
        prediction_type="epsilon",
    )


def signal_level(schedule: DDPMScheduler, t: int) -> float:
    """abar at step ``t`` (from 0): the variance of the signal that is left; 1 for ``t = -1``."""
    return 1.0 if t < 0 else float(schedule.alphas_cumprod[t])


def add_noise(schedule: DDPMScheduler, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
    """``sqrt(abar_t) clean + sqrt(1 - abar_t) noise``: the forward process in one go.

    ``clean`` and ``noise`` (B, C, *S); ``t`` one step, or (B,) int64. A batch of one in ``noise``
    is repeated. Returns float32.
    """
    if isinstance(t, int):
        t = torch.full((clean.shape[0],), t, dtype=torch.int64, device=clean.device)
    # In half precision 1 - abar would lose its digits.
    return schedule.add_noise(clean.float(), noise.float(), t)  # type: ignore[arg-type]
