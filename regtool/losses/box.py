"""Sums over a box window with zeros outside, by shifted adds."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def window_sizes(window: int | Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Odd window size of every axis, cut to the 2n - 1 beyond which only padding is added."""
    sizes = (window,) * len(shape) if isinstance(window, int) else tuple(window)
    if len(sizes) != len(shape) or any(n < 1 or n % 2 == 0 for n in sizes):
        raise ValueError(f"window sizes are odd and one for each of {len(shape)} axes, not {sizes}")
    return tuple(min(w, 2 * n - 1) for w, n in zip(sizes, shape, strict=True))


def box_sum(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sum of ``x`` (B, C, *S) over a centred box of odd ``sizes``, zeros outside; same shape.

    Sums of doubling length are added (1, 2, 4, ...), so a window of 9 costs four additions an axis
    and, unlike running sums, rounding does not grow along the axis.
    """
    pads = [n // 2 for n in reversed(list(sizes)) for _ in range(2)]
    x = F.pad(x, pads)
    for axis, n in reversed(list(enumerate(sizes, start=2))):
        x = _sliding_sum(x, axis, n)
    return x


def _sliding_sum(x: Tensor, axis: int, window: int) -> Tensor:
    """Sums of ``window`` neighbours along ``axis``, only where all of them exist."""
    length = x.shape[axis] - window + 1
    power, done = x, 0
    total: Tensor | None = None
    size = 1
    while done < window:
        if window & size:
            part = power.narrow(axis, done, length)
            total = part if total is None else total + part
            done += size
        if done < window:
            reach = power.shape[axis] - size
            power = power.narrow(axis, 0, reach) + power.narrow(axis, size, reach)
            size *= 2
    assert total is not None
    return total
