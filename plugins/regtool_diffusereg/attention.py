"""Window attention in which one stream of tokens sees the same window of other streams as well."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api import UsageError
from regtool.api.nn import (
    merge,
    pad_to_windows,
    partition,
    relative_index,
    roll,
    shift_mask,
)

Shape = tuple[int, ...]
Keys = tuple[Tensor, Tensor]
"""Keys and values of some tokens, each (B, windows, heads, places, width of a head)."""

_FAR = -100.0
"""Added to the score of a forbidden place, as published."""


class StreamAttention(nn.Module):
    """One projection for all streams, one table of relative positions, the same for each stream.

    Queries come from the own stream alone, since only its answers are kept; the published code
    computes those of the other streams as well and drops them.
    """

    def __init__(self, channels: int, heads: int, window: Shape) -> None:
        super().__init__()
        if channels % heads:
            raise UsageError(
                f"network.heads: {channels} channels cannot be shared among {heads} heads"
            )
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(prod(2 * w - 1 for w in window), heads))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def keys(self, tokens: Tensor) -> Keys:
        """Keys and values of tokens (B, windows, places, C)."""
        c = tokens.shape[-1]
        both = functional.linear(tokens, self.qkv.weight[c:], self.qkv.bias[c:])
        k, v = both.chunk(2, -1)
        return self._heads(k), self._heads(v)

    def forward(
        self,
        own: Tensor,
        window: Shape,
        forbidden: Tensor | None = None,
        streams: Sequence[Keys] = (),
        time: Keys | None = None,
    ) -> Tensor:
        """Answers (B, windows, places, C) to the own tokens, of the same shape.

        ``window`` is that of the tokens, which may be smaller than the table's. ``forbidden``
        (windows, places, places) bool. ``streams`` have a token at each place and share bias and
        mask with the own; ``time`` has one token a batch element and neither.
        """
        batch, windows, places, c = own.shape
        q, k, v = (self._heads(x) for x in self.qkv(own).chunk(3, -1))
        seen = [*streams, (k, v)]
        score = self.score(window, forbidden, len(seen), time is not None).to(q.dtype)
        if time is not None:
            k0, v0 = (x.expand(-1, windows, -1, -1, -1) for x in time)
            seen.insert(0, (k0, v0))
        k, v = (torch.cat([pair[n].to(q.dtype) for pair in seen], 3) for n in (0, 1))
        if len(score) > 1 and batch > 1:
            score = score.expand(batch, *score.shape).flatten(0, 1)
        mixed = functional.scaled_dot_product_attention(
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=score
        )
        mixed = mixed.transpose(1, 2).reshape(batch, windows, places, c)
        return self.proj(mixed)

    def score(self, window: Shape, forbidden: Tensor | None, streams: int, time: bool) -> Tensor:
        """What is added to the scores, (windows or 1, heads, places, 1 + streams * places).

        Bias and mask of one stream, tiled over all of them; nothing for the time token.
        """
        index = _index(window, self.window, self.bias.device)
        one = self.bias[index].permute(2, 0, 1)[None]
        if forbidden is not None:
            one = one.masked_fill(forbidden[:, None], _FAR)
        tiles = [one] * streams
        if time:
            tiles.insert(0, one.new_zeros(*one.shape[:3], 1))
        return torch.cat(tiles, -1)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, windows, places, C) to (B, windows, heads, places, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3)


class Windowing:
    """How a block cuts maps of one shape (*S): window, cyclic shift, and what may not be seen.

    Where a side of the map is no longer than the window's, the window ends with it and is not
    shifted. Other sides are completed with zeros, which no place sees.
    """

    def __init__(self, shape: Shape, window: Shape, shifted: bool, masked: bool = True) -> None:
        self.shape = shape
        self.window = tuple(min(s, w) for s, w in zip(shape, window, strict=True))
        self.shift = tuple(
            w // 2 if shifted and s > w else 0 for s, w in zip(shape, window, strict=True)
        )
        self.padded = tuple(-(-s // w) * w for s, w in zip(shape, self.window, strict=True))
        self.masked = masked and any(self.shift)

    def cut(self, x: Tensor) -> Tensor:
        """Maps (B, *S, C) as windows (B, windows, places, C)."""
        x = pad_to_windows(x, self.window)
        return partition(roll(x, tuple(-s for s in self.shift)), self.window)

    def join(self, windows: Tensor) -> Tensor:
        """Undo ``cut``."""
        x = roll(merge(windows, self.window, self.padded), self.shift)
        return x[(slice(None), *(slice(0, n) for n in self.shape))]

    def forbidden(self, device: torch.device) -> Tensor | None:
        """(windows or 1, places, places) bool: which places a place may not see; None: it may."""
        mask = None
        if self.masked:
            mask = shift_mask(self.padded, self.window, self.shift, device)
        if self.padded == self.shape:
            return mask
        outside = _outside(self.shape, self.padded, self.window, self.shift, device)
        return outside if mask is None else mask | outside


@functools.lru_cache(maxsize=64)
def _index(window: Shape, table: Shape, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return relative_index(window, table).to(device)


@functools.lru_cache(maxsize=64)
def _outside(
    shape: Shape, padded: Shape, window: Shape, shift: Shape, device: torch.device
) -> Tensor:
    """Which keys are padding, (windows, places, places) bool."""
    with torch.inference_mode(False):
        inside = torch.zeros(1, *padded, 1, dtype=torch.bool)
        inside[(slice(None), *(slice(0, n) for n in shape))] = True
        keys = partition(roll(inside, tuple(-s for s in shift)), window)[0, :, :, 0]
        return ~keys[:, None, :].expand(-1, keys.shape[1], -1).to(device)
