"""Noise schedules: how much of the signal is left at each step of the forward process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

Kind = Literal["linear", "scaled_linear", "cosine"]


@dataclass(frozen=True)
class NoiseSchedule:
    """A schedule of ``steps`` noise levels whose networks predict the noise.

    ``linear``: beta from ``start`` to ``end`` (Ho et al., NeurIPS 2020); ``scaled_linear``: the
    square of a line between their roots (Rombach et al., CVPR 2022); ``cosine``: Nichol and
    Dhariwal, ICML 2021, where ``start`` and ``end`` have no meaning. Steps count from 0.

    The levels are computed here, because importing diffusers takes seconds and a registration may
    need one level only; ``scheduler`` is the same schedule as diffusers has it.
    """

    kind: Kind = "linear"
    start: float = 1e-4
    end: float = 0.02
    steps: int = 1000

    @cached_property
    def betas(self) -> Tensor:
        """beta of each step, (steps,) float64."""
        if self.kind == "cosine":
            ends = [math.cos((k / self.steps + 0.008) / 1.008 * math.pi / 2) ** 2
                    for k in range(self.steps + 1)]  # fmt: skip
            values = [min(1 - b / a, 0.999) for a, b in pairwise(ends)]
            return torch.tensor(values, dtype=torch.float64)
        power = 2 if self.kind == "scaled_linear" else 1
        low, high = self.start ** (1 / power), self.end ** (1 / power)
        return torch.linspace(low, high, self.steps, dtype=torch.float64) ** power

    @cached_property
    def levels(self) -> Tensor:
        """abar of each step, the variance of the signal that is left: (steps,) float64."""
        with torch.inference_mode(False):
            return torch.cumprod(1 - self.betas, 0)

    @cached_property
    def _placed(self) -> dict[torch.device, Tensor]:
        return {}

    def levels_on(self, device: torch.device) -> Tensor:
        """``levels`` on a device, copied there once, so that a step does not wait for the copy."""
        if device not in self._placed:
            self._placed[device] = self.levels.to(device)
        return self._placed[device]

    def level(self, t: int) -> float:
        """abar at step ``t``; 1 at ``t = -1``, the clean sample."""
        return 1.0 if t < 0 else float(self.levels[t])

    @cached_property
    def scheduler(self) -> DDPMScheduler:
        """The schedule in diffusers, for its samplers.

        Nothing is clipped: latents, images of other ranges and fields are not confined to [-1, 1],
        the default of diffusers.
        """
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        return DDPMScheduler(
            num_train_timesteps=self.steps,
            trained_betas=self.betas.numpy(),
            variance_type="fixed_small",
            clip_sample=False,
            prediction_type="epsilon",
        )


SR3 = NoiseSchedule("linear", 1e-6, 1e-2, 2000)
"""beta from 1e-6 to 1e-2 over 2000 steps (Saharia et al. 2021): what the networks that register by
the noise of an image or a field took over."""


def add_noise(schedule: NoiseSchedule, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
    """``sqrt(abar_t) clean + sqrt(1 - abar_t) noise``: the forward process in one go.

    ``clean`` and ``noise`` (B, C, *S); ``t`` one step, or (B,) int64. A batch of one in ``noise``
    is repeated. Returns float32: in half precision 1 - abar would lose its digits.
    """
    levels = schedule.levels_on(clean.device)
    level = levels[t.to(clean.device)] if isinstance(t, Tensor) else levels[t]
    level = level.reshape(-1, *[1] * (clean.dim() - 1))
    signal, spread = level.sqrt().float(), (1 - level).sqrt().float()
    return clean.float() * signal + noise.float() * spread
