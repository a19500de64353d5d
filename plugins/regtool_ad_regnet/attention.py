"""Cross-attention between both images' features, in both directions, blended by one number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api import UsageError
from regtool.api.nn import cropped, merge, partition
from regtool_ad_regnet.slabs import in_slabs, slabs

_HEAD = 16
"""Narrowest head; levels too narrow for all heads have fewer."""

_FEW = 2048
"""Keys up to which all scores at once are no burden."""


@dataclass(frozen=True)
class Seen:
    """How the attention of a level looked: ``dense`` (every token at every one), or in windows."""

    window: tuple[int, ...]
    dense: bool
    tokens: int


class CrossAttention(nn.Module):
    """``A = alpha A_MF + (1 - alpha) A_FM`` (METHODS 7.2), alpha a learnt number's sigmoid.

    A_MF asks the fixed features by the moving ones (queries of the moving image, keys and values
    of the fixed); A_FM the other way round, so it alone lives on the fixed grid. Six projections,
    three for each image's part. ``cap``: up to so many tokens every one sees every other of the
    other image; more go in windows of ``window`` voxels a side that lie in the same place in both.

    ``offsets``, which the paper does not have, adds to A_FM how far from the query the moving
    image's attended places lie on average, projected to the channels: content alone does not say
    where it came from.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        window: int = 4,
        cap: int = 16_384,
        alpha: float = 0.5,
        offsets: bool = False,
    ) -> None:
        super().__init__()
        self.heads = max(1, min(heads, channels // _HEAD))
        if channels % self.heads:
            raise UsageError(
                f"network.heads: {channels} channels cannot be shared among {self.heads} heads"
            )
        self.window, self.cap = window, cap
        self.moving, self.fixed = (nn.Linear(channels, 3 * channels) for _ in range(2))
        self.blend = nn.Parameter(torch.tensor(math.log(alpha / (1 - alpha)), dtype=torch.float32))
        self.place = nn.Linear(3 * self.heads, channels, bias=False) if offsets else None

    def looks(self, shape: tuple[int, ...]) -> Seen:
        """Dense or in windows, for maps of that size."""
        if prod(shape) <= self.cap:
            return Seen(shape, True, prod(shape))
        return Seen(tuple(min(self.window, n) for n in shape), False, prod(shape))

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """A (B, C, z, y, x) from features of both images, of the same shape."""
        window = self.looks(tuple(fixed.shape[2:])).window
        if not in_slabs(fixed):
            return self._attend(fixed, moving, window)
        out: Tensor | None = None
        # Windows do not see each other, so slabs of whole windows change nothing.
        for start, stop in slabs(fixed.shape[2], 12 * fixed[:, :, 0].numel(), window[0]):
            done = self._attend(fixed[:, :, start:stop], moving[:, :, start:stop], window)
            if out is None:
                out = done.new_empty(fixed.shape)
            out[:, :, start:stop] = done
        assert out is not None
        return out

    def share(self) -> Tensor:
        """alpha, the part of A_MF."""
        return self.blend.sigmoid()

    def _attend(self, fixed: Tensor, moving: Tensor, window: tuple[int, ...]) -> Tensor:
        shape, missing = tuple(fixed.shape[2:]), _missing(tuple(fixed.shape[2:]), window)
        f, m = _tokens(fixed, window, missing), _tokens(moving, window, missing)
        hidden = _outside(shape, window, missing, fixed.device)
        qf, kf, vf = self._split(self.fixed(f))
        qm, km, vm = self._split(self.moving(m))
        there = self._ask(qm, kf, vf, hidden)
        alpha = self.share()
        if self.place is None:
            back = self._ask(qf, km, vm, hidden)
            mixed = alpha * _joined(there) + (1 - alpha) * _joined(back)
        else:
            back, offset = self._ask_where(qf, km, vm, hidden, window)
            mixed = alpha * _joined(there) + (1 - alpha) * _joined(back)
            mixed = mixed + self.place(_joined(offset))
        padded = tuple(n + k for n, k in zip(shape, missing, strict=True))
        mixed = mixed.reshape(fixed.shape[0], -1, *mixed.shape[1:])
        maps = merge(mixed, window, padded).movedim(-1, 1)
        return cropped(maps, shape)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, places, 3 C) to queries, keys, values, each (N, heads, places, C / heads)."""
        x = x.reshape(*x.shape[:2], 3, self.heads, -1)
        q, k, v = x.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def _ask(self, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None) -> Tensor:
        return _mixed(q, k, v, self._mask(q, hidden))

    def _ask_where(
        self, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, window: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Values as attended, and how far off they lie (N, heads, places, 3), -1 to 1 a window.

        The places ride along as three more channels of the values.
        """
        places = _places(window, q.device).to(v.dtype)
        wide = torch.cat([v, places.expand(*v.shape[:3], 3)], -1)
        wide = _mixed(q, k, wide, self._mask(q, hidden))
        return wide[..., :-3], wide[..., -3:] - places

    def _mask(self, q: Tensor, hidden: Tensor | None) -> Tensor | None:
        """Which keys count, (N, 1, 1, places) bool, or None where all do."""
        if hidden is None:
            return None
        return ~hidden.repeat(q.shape[0] // len(hidden), 1)[:, None, None]

    def rows(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Entropy of A_FM's rows, 0 (one place) to 1 (all alike): (B, 1, z, y, x), mean over heads.

        Divided by the logarithm of the number of keys that a query sees (METHODS 7.5 b).
        """
        shape = tuple(fixed.shape[2:])
        window = self.looks(shape).window
        missing = _missing(shape, window)
        f, m = _tokens(fixed, window, missing), _tokens(moving, window, missing)
        hidden = _outside(shape, window, missing, fixed.device)
        windows, width = f.shape[0], f.shape[-1]
        count = f.new_full((windows,), float(prod(window)))
        if hidden is not None:
            count = count - hidden.repeat(windows // len(hidden), 1).sum(-1)
        out = f.new_empty(windows, f.shape[1], dtype=torch.float32)
        q_weight, k_weight = self.fixed.weight[:width], self.moving.weight[width : 2 * width]
        q_bias, k_bias = self.fixed.bias[:width], self.moving.bias[width : 2 * width]
        at_once = max(1, 2**22 // (self.heads * prod(window)))  # query places
        rows = max(1, at_once // prod(window))
        for start in range(0, windows, rows):
            part = slice(start, min(start + rows, windows))
            k = self._heads(functional.linear(m[part], k_weight, k_bias))
            q = self._heads(functional.linear(f[part], q_weight, q_bias))
            for first in range(0, q.shape[2], at_once):
                scores = q[:, :, first : first + at_once].float() @ k.float().transpose(-2, -1)
                scores = scores * q.shape[-1] ** -0.5
                if hidden is not None:
                    kept = hidden.repeat(windows // len(hidden), 1)[part]
                    scores = scores.masked_fill(kept[:, None, None], -math.inf)
                logs = scores.log_softmax(-1)
                spread = -(logs.exp() * logs.clamp(min=-1e4)).sum(-1).mean(1)
                out[part, first : first + at_once] = spread
        out = out / count.log().clamp(min=1e-6)[:, None]
        padded = tuple(n + k for n, k in zip(shape, missing, strict=True))
        maps = merge(out.reshape(fixed.shape[0], -1, out.shape[1], 1), window, padded)
        return cropped(maps.movedim(-1, 1), shape)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _mixed(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
    """Softmax attention of (N, heads, places, d); values may be wider than queries and keys.

    PyTorch's fused kernel, which needs equal widths: zeros add nothing to a product. In bfloat16 on
    the CPU it takes eight times as long as plain products on windows of 64 places (torch 2.13).
    """
    scale = q.shape[-1] ** -0.5
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[2] <= _FEW:
        scores = (q * scale) @ k.transpose(-2, -1)
        if seen is not None:
            scores = scores.masked_fill(~seen, -math.inf)
        return scores.softmax(-1).to(v.dtype) @ v
    more = v.shape[-1] - q.shape[-1]
    if more:
        q, k = functional.pad(q, (0, more)), functional.pad(k, (0, more))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)


def _missing(shape: tuple[int, ...], window: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-n % w for n, w in zip(shape, window, strict=True))


def _tokens(x: Tensor, window: tuple[int, ...], missing: tuple[int, ...]) -> Tensor:
    """Maps (B, C, *S) as tokens (B * windows, places, C)."""
    if any(missing):
        x = functional.pad(x, [v for n in reversed(missing) for v in (0, n)])
    return partition(x.movedim(1, -1), window).flatten(0, 1)


def _outside(
    shape: tuple[int, ...], window: tuple[int, ...], missing: tuple[int, ...], device: torch.device
) -> Tensor | None:
    """Which places of each window are no part of the map, (windows, places) bool."""
    if not any(missing):
        return None
    real = torch.ones(1, 1, *shape, device=device)
    return _tokens(real, window, missing)[..., 0] == 0


def _places(window: tuple[int, ...], device: torch.device) -> Tensor:
    """Coordinates of a window's places, (places, 3), a window's half side being 1."""
    axes = [
        (torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2) * (2 / n)
        for n in window
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _joined(x: Tensor) -> Tensor:
    """(N, heads, places, d) to (N, places, heads * d)."""
    return x.transpose(1, 2).flatten(2)
