"""The running means between two rows of the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Window:
    """Sums and counts of named losses, and of the norms of gradients.

    A norm may be infinite where mixed precision leaves a step out; such a one does not count. On
    the CPU values are taken at once; on a GPU they are kept as tensors until somebody asks, so that
    steps do not wait for each other.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._waiting: dict[str, list[Tensor]] = {}
        self._norms: set[str] = set()
        self._finite = True
        self._begun: set[str] = set()
        self._wrong_at_once = False

    def add(self, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> None:
        """Take one step's losses and norms (detached scalars)."""
        self._norms |= norms.keys()
        for name, value in (*losses.items(), *norms.items()):
            if value.device.type == "cpu":
                self._count(name, [value.item()])
            else:
                self._waiting.setdefault(name, []).append(value)

    @property
    def finite(self) -> bool:
        """Whether every loss so far was a number; waits for the device."""
        self._settle()
        return self._finite

    @property
    def wrong_at_once(self) -> bool:
        """Whether the very first value of a loss was no number; waits for the device."""
        self._settle()
        return self._wrong_at_once

    def means(self) -> dict[str, float]:
        """Mean of each loss and norm since the last call; starts a new window."""
        self._settle()
        out = {name: total / count for name, (total, count) in self._sums.items() if count}
        self._sums = {}
        return out

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        self._settle()
        return {name: list(pair) for name, pair in self._sums.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue the window of a checkpoint."""
        self._sums = {name: [float(total), count] for name, (total, count) in state.items()}
        self._waiting = {}

    def _count(self, name: str, values: list[float]) -> None:
        pair = self._sums.setdefault(name, [0.0, 0])
        for value in values:
            finite = math.isfinite(value)
            if name not in self._norms:
                self._wrong_at_once |= not finite and name not in self._begun
                self._begun.add(name)
                self._finite = self._finite and finite
            elif not finite:
                continue
            pair[0] += value
            pair[1] += 1

    def _settle(self) -> None:
        for name, values in self._waiting.items():
            self._count(name, torch.stack(values).tolist())
        self._waiting = {}
