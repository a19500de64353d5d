"""The exact denoiser of fields that are normally distributed about a known one."""

from __future__ import annotations

import math
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


@dataclass
class Smooth:
    """As ``Exact`` for fields about ``mean`` (1, C, H, W) whose voxels go together.

    The covariance is ``sd**2`` times a Gaussian of ``width`` voxels, diagonal in cosines.
    """

    mean: Tensor
    sd: float
    width: float = 4.0
    schedule: NoiseSchedule = SR3

    def __post_init__(self) -> None:
        self.bases = [cosines(n) for n in self.mean.shape[2:]]
        y, x = (torch.arange(n) * (math.pi / n) for n in self.mean.shape[2:])
        spectrum = torch.exp(-((self.width * y[:, None]) ** 2) - (self.width * x) ** 2)
        self.variance = self.sd**2 * spectrum / spectrum.mean() + 1e-6

    def __call__(self, state: Tensor, t: Tensor) -> Tensor:
        level = self.schedule.level(int(t))
        a, b = self.bases
        waves = a @ (state - level**0.5 * self.mean) @ b.T
        noise = (1 - level) ** 0.5 * waves / (level * self.variance + 1 - level)
        return a.T @ noise @ b


def cosines(n: int) -> Tensor:
    """The orthonormal DCT-II as a matrix."""
    from scipy.fft import dct

    still = torch.eye(n, dtype=torch.float64).numpy()
    return torch.from_numpy(dct(still, axis=0, norm="ortho")).float()
