"""Noise that depends on a seed and a step alone, so that any step can be repeated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSource:
    """Standard normal noise for every step of a sampling, without a state that moves on.

    ``seed`` decides all of it. ``members`` numbers the samples: element b of a batch gets the
    pattern of ``members[b]``, the same whether it is drawn alone or among others; a single member
    gives all elements one pattern, so that a stack of slices stays coherent across them.

    A sampling that is resumed draws what the uninterrupted one would have drawn, and a GPU the same
    as a CPU: NumPy's PCG64, seeded with (seed, member, step), draws on the CPU.
    """

    seed: int
    members: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, generator: torch.Generator, members: tuple[int, ...] = (0,)) -> NoiseSource:
        """The source that belongs to the seed of a generator, which is not advanced."""
        return cls(generator.initial_seed(), members)

    def start(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
        """Noise (B, C, *S) float32 to begin with."""
        return self._draw(0, shape, device)

    def at(self, t: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
        """Noise (B, C, *S) float32 for the step that leads down from level ``t``."""
        return self._draw(t + 1, shape, device)

    def _draw(self, key: int, shape: tuple[int, ...], device: torch.device | str) -> Tensor:
        if len(self.members) not in (1, shape[0]):
            raise ValueError(f"{len(self.members)} members for a batch of {shape[0]}")
        drawn = []
        for member in self.members:
            random = np.random.default_rng((self.seed, member, key))
            drawn.append(torch.from_numpy(random.standard_normal(shape[1:], dtype=np.float32)))
        return torch.stack(drawn).to(device).expand(shape).contiguous()
