"""Phase correlation as a module without parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Extra, Pair, Prediction
from regtool_example.options import ShiftOptions


class PhaseCorrelation(nn.Module):
    """The shift s with ``moving(x + s) = fixed(x)`` is the peak of the normalised cross-power."""

    def forward(self, pair: Pair, options: ShiftOptions, context: Context) -> Prediction:
        """Answer with one displacement everywhere; the correlation map is an extra."""
        fixed, moving = pair.fixed.image, pair.moving.image
        axes = tuple(range(2, fixed.dim()))
        power = torch.fft.fftn(moving, dim=axes) * torch.fft.fftn(fixed, dim=axes).conj()
        power = power / power.abs().clamp(min=1e-3)
        correlation = torch.fft.ifftn(power, dim=axes).real
        shift = peak(correlation[:, 0], options.largest)
        shape = fixed.shape[2:]
        column = shift.to(fixed).reshape(*shift.shape, *[1] * len(shape))
        return Prediction(
            displacement=column.expand(*shift.shape, *shape).clone(),
            extras={"Correlation": Extra(correlation, "map")},
        )


def peak(correlation: Tensor, largest: int | None) -> Tensor:
    """Position of the maximum of periodic maps (B, *S) as signed shifts (B, ndim)."""
    allowed = torch.ones_like(correlation)
    for axis, size in enumerate(correlation.shape[1:]):
        index = torch.arange(size, device=correlation.device)
        distance = index.minimum(size - index)
        shape = [-1] + [1] * (correlation.dim() - 2 - axis)
        allowed = allowed * (distance <= (largest or size)).reshape(shape)
    best = (correlation.masked_fill(allowed == 0, -1e9)).flatten(1).argmax(1)
    sizes = torch.tensor(correlation.shape[1:], device=best.device)
    index = torch.stack(torch.unravel_index(best, correlation.shape[1:]), dim=1)
    return torch.where(index > sizes // 2, index - sizes, index)


def build(config: Mapping[str, Any]) -> nn.Module:
    """There is nothing to configure."""
    return PhaseCorrelation()
