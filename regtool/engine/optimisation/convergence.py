"""When a level has converged, and the best field until then."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_GAIN = 1e-6
"""A smaller fall of the loss is rounding."""

Tick = Callable[[], None]
"""Called after each iteration."""


class Convergence:
    """Watches the losses (B,) of an iteration; each batch element by itself.

    An element has converged when a line through its last ``window`` losses falls, over the window,
    by less than ``tolerance`` times what the element has gained since the first iteration.
    """

    def __init__(self, window: int, tolerance: float) -> None:
        self.window, self.tolerance = max(2, window), tolerance
        self.first: Tensor | None = None
        self.values: list[Tensor] = []

    def add(self, values: Tensor) -> Tensor:
        """Note the losses of one more iteration; True where they have converged, (B,)."""
        values = values.detach().double()
        self.values = [*self.values[-(self.window - 1) :], values]
        if self.first is None:
            self.first = values
        if len(self.values) < self.window:
            return torch.zeros_like(values, dtype=torch.bool)
        stack = torch.stack(self.values)
        at = torch.arange(len(stack), device=stack.device, dtype=stack.dtype)
        at = at - at.mean()
        slope = (at[:, None] * (stack - stack.mean(0))).sum(0) / at.square().sum()
        gained = (self.first - stack.amin(0)).clamp(min=0)
        return -slope * self.window <= self.tolerance * gained


class Best:
    """Fields of the smallest loss so far, for each batch element."""

    def __init__(self, *fields: Tensor) -> None:
        self.fields = fields
        self.values: Tensor | None = None

    def offer(self, values: Tensor, *fields: Tensor) -> None:
        """Keep ``fields`` where ``values`` (B,) are smaller by more than rounding."""
        if self.values is None:
            self.values, self.fields = values.clone(), fields
            return
        better = values < self.values - _GAIN
        if better.all():
            self.fields = fields
        elif better.any():
            chosen = better.view(-1, *[1] * (fields[0].dim() - 1))
            self.fields = tuple(
                torch.where(chosen, new, old) for new, old in zip(fields, self.fields, strict=True)
            )
        self.values = torch.where(better, values, self.values)
