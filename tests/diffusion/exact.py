"""The exact denoiser of fields that are normally distributed about a known one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regtool.api.diffusion import SR3, NoiseSchedule


@dataclass
class Exact:
    """``E[noise | state]`` for clean fields ``N(mean, sd**2)``, independent voxels.

    The state at abar is ``N(sqrt(abar) mean, abar sd**2 + 1 - abar)``; the regression of the noise
    on it is linear. ``seen`` collects the steps asked for.
    """

    mean: Tensor
    sd: float
    schedule: NoiseSchedule = SR3

    def __post_init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, state: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (1,) and t.dtype == torch.int64
        self.seen.append(int(t))
        level = self.schedule.level(int(t))
        variance = level * self.sd**2 + 1 - level
        return (1 - level) ** 0.5 * (state - level**0.5 * self.mean) / variance
