"""Cutting feature maps into windows and putting them together again, in 2-D and 3-D."""

from __future__ import annotations

import functools
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor


def partition(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """Cut maps (B, *S, C), sizes divisible by ``window``, into (B, windows, places, C)."""
    ndim = len(window)
    parts = [n for s, w in zip(x.shape[1:-1], window, strict=True) for n in (s // w, w)]
    x = x.reshape(x.shape[0], *parts, x.shape[-1])
    outer, inner = range(1, 2 * ndim, 2), range(2, 2 * ndim + 1, 2)
    x = x.permute(0, *outer, *inner, 2 * ndim + 1)
    return x.reshape(x.shape[0], -1, prod(window), x.shape[-1])


def merge(windows: Tensor, window: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Undo ``partition``: (B, windows, places, C) to (B, *shape, C)."""
    ndim = len(window)
    counts = [s // w for s, w in zip(shape, window, strict=True)]
    x = windows.reshape(windows.shape[0], *counts, *window, windows.shape[-1])
    order = [axis for k in range(ndim) for axis in (1 + k, 1 + ndim + k)]
    x = x.permute(0, *order, 2 * ndim + 1)
    return x.reshape(windows.shape[0], *shape, windows.shape[-1])


def pad_to_windows(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """Pad maps (B, *S, C) with zeros at the far ends to multiples of ``window``."""
    missing = [-s % w for s, w in zip(x.shape[1:-1], window, strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [0, 0, *(n for amount in reversed(missing) for n in (0, amount))])


def roll(x: Tensor, shift: tuple[int, ...]) -> Tensor:
    """Roll maps (B, *S, C) cyclically by ``shift`` places."""
    return torch.roll(x, shift, tuple(range(1, 1 + len(shift)))) if any(shift) else x


@functools.lru_cache(maxsize=64)
def shift_mask(
    shape: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> Tensor:
    """Where attention is forbidden after a cyclic shift: (windows, places, places) bool.

    Places that were neighbours only because the map was rolled do not see each other
    (Liu et al., ICCV 2021, section 3.2).
    """
    with torch.inference_mode(False):
        region = torch.zeros(1, *shape, 1, dtype=torch.int32)
        for axis, (size, w, s) in enumerate(zip(shape, window, shift, strict=True)):
            line = torch.zeros(size, dtype=torch.int32)
            line[size - w :] = 1
            line[size - s :] = 2
            view = [1] * (len(shape) + 2)
            view[1 + axis] = size
            region = region * 3 + line.reshape(view)
        places = partition(region, window)[0, :, :, 0]
        return (places[:, None, :] != places[:, :, None]).to(device)


def relative_index(window: tuple[int, ...], table: tuple[int, ...] | None = None) -> Tensor:
    """For each pair of places in a window the row of its relative position, (places, places).

    The rows are those of a table for windows of ``table``, by default ``window`` itself: a smaller
    window finds its relative positions among those of a larger one.
    """
    axes = torch.meshgrid(*[torch.arange(w) for w in window], indexing="ij")
    places = torch.stack(axes).flatten(1)
    index = torch.zeros(places.shape[1], places.shape[1], dtype=torch.int64)
    for line, w in zip(places, table or window, strict=True):
        index = index * (2 * w - 1) + (line[:, None] - line[None, :] + w - 1)
    return index
