"""What a training example of a noise predictor is drawn as, and the error of its answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regtool.diffusion.schedule import NoiseSchedule, add_noise


@dataclass
class Draw:
    """For each example of a batch: its step (B,), its noise, and whether it has none at all."""

    t: Tensor
    noise: Tensor
    clean: Tensor

    @property
    def noisy(self) -> Tensor:
        """Which examples have noise, (B, 1, ...) to go with images."""
        return ~self.clean.reshape(-1, *[1] * (self.noise.dim() - 1))

    def state(self, schedule: NoiseSchedule, image: Tensor) -> Tensor:
        """``image`` (B, C, *S) with its noise, or as it is where the example is clean."""
        return torch.where(self.noisy, add_noise(schedule, image, self.noise, self.t), image)

    def error(self, found: Tensor) -> Tensor:
        """Mean squared error of ``found`` noise over the examples that have any; 0 without one."""
        error = (found - self.noise).square() * self.noisy
        return error.sum() / (self.noisy.sum() * found[0].numel()).clamp(min=1)


def draw(
    schedule: NoiseSchedule,
    like: Tensor,
    generator: torch.Generator,
    clean: float = 0.0,
    focus: float = 0.0,
    low: int = 0,
) -> Draw:
    """Steps uniform over the schedule, and standard normal noise, for a batch (B, C, *S).

    ``clean`` is the share of examples without noise, at step 0; ``focus`` the share of the others
    whose step is below ``low``.
    """
    count, device = like.shape[0], like.device
    random = torch.rand((3, count), generator=generator, device=device)
    most = torch.where(random[1] < focus, low, schedule.steps)
    none = random[0] < clean
    t = (random[2] * most).long().clamp(max=schedule.steps - 1)
    noise = torch.randn(like.shape, generator=generator, device=device)
    return Draw(torch.where(none, 0, t), noise, none)
