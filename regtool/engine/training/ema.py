"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Running average of all floating-point parameters and buffers.

    shadow <- d * shadow + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)) after n
    updates, the usual warm-up that keeps the random start out of the average. Integer buffers
    are not averaged.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"EMA decay must lie between 0 and 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self._live = {
            k: v for k, v in module.state_dict(keep_vars=True).items() if v.is_floating_point()
        }
        self.shadow = {k: v.detach().clone() for k, v in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the module's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        live = [v.detach() for v in self._live.values()]
        torch._foreach_lerp_(list(self.shadow.values()), live, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module for the time of a ``with`` block."""
        kept = {k: v.detach().clone() for k, v in self._live.items()}
        self._copy(self.shadow)
        try:
            yield
        finally:
            self._copy(kept)

    def load(self, shadow: Mapping[str, Tensor], updates: int) -> None:
        """Restore the average from a checkpoint."""
        with torch.no_grad():
            for key, value in self.shadow.items():
                value.copy_(shadow[key])
        self.updates = updates

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for key, value in self._live.items():
            value.copy_(values[key])
