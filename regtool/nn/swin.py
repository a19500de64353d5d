"""Swin blocks with self or cross attention in windows, and the hierarchical Swin encoder.

Source: Liu et al., "Swin Transformer", ICCV 2021. DiffuseReg and LDM-Morph are built from these
blocks. Maps are channels last, (B, *S, C), in 2-D or 3-D.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regtool.nn.windows import (
    merge,
    pad_to_windows,
    partition,
    relative_index,
    roll,
    shift_mask,
)


class DropPath(nn.Module):
    """Stochastic depth: in training a sample skips the branch with probability ``rate``."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * keep / (1 - self.rate)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a learned bias for each relative position.

    One projection serves queries, keys and values, so that the same weights answer in both
    directions when the queries come from another map (TransMatch, LDM-Morph).
    """

    index: Tensor

    def __init__(
        self, channels: int, heads: int, window: tuple[int, ...], qkv_bias: bool = False
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared among {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(prod(2 * w - 1 for w in window), heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("index", relative_index(window), persistent=False)

    def forward(self, x: Tensor, query: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Attend: ``x`` and ``query`` (B, windows, places, C), ``mask`` True where forbidden."""
        if query is None:
            q, k, v = self._split(self.qkv(x))
        else:
            c = x.shape[-1]
            bias = self.qkv.bias
            parts = (None, None) if bias is None else (bias[:c], bias[c:])
            (q,) = self._split(F.linear(query, self.qkv.weight[:c], parts[0]))
            k, v = self._split(F.linear(x, self.qkv.weight[c:], parts[1]))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias[self.index].permute(2, 0, 1)
        if mask is not None:
            scores = scores.masked_fill(mask[:, None], -100.0)
        mixed = scores.softmax(-1).to(v.dtype) @ v
        return self.proj(mixed.transpose(2, 3).flatten(3))

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, W, N, k * C) to k tensors (B, W, heads, N, C / heads)."""
        depth = self.proj.in_features // self.heads
        x = x.reshape(*x.shape[:3], -1, self.heads, depth)
        return x.permute(3, 0, 1, 4, 2, 5).unbind(0)


class SwinBlock(nn.Module):
    """Window attention and an MLP, each after a LayerNorm and with a residual connection.

    With ``query`` given, the block is cross attention: queries come from it, while keys, values
    and the residual come from ``x``; both pass the same LayerNorm.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: tuple[int, ...],
        *,
        shifted: bool = False,
        mlp_ratio: int = 4,
        qkv_bias: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = tuple(w // 2 if shifted else 0 for w in window)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels),
            nn.GELU(),
            nn.Linear(mlp_ratio * channels, channels),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, query: Tensor | None = None) -> Tensor:
        """Maps (B, *S, C) of any size; zeros that complete the windows take part in attention."""
        values = pad_to_windows(self.norm1(x), self.window)
        asked = None if query is None else pad_to_windows(self.norm1(query), self.window)
        mixed = self._attend(values, asked)
        inside = tuple(slice(0, n) for n in x.shape[1:-1])
        x = x + self.drop_path(mixed[(slice(None), *inside)])
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, query: Tensor | None) -> Tensor:
        shape = tuple(x.shape[1:-1])
        back = tuple(-s for s in self.shift)
        mask = shift_mask(shape, self.window, self.shift, x.device) if any(back) else None
        asked = None if query is None else partition(roll(query, back), self.window)
        mixed = self.attention(partition(roll(x, back), self.window), asked, mask)
        return roll(merge(mixed, self.window, shape), self.shift)


class PatchMerging(nn.Module):
    """Halve a map: 2**n neighbours side by side, LayerNorm, and a projection to 2 C channels.

    ``corners``: which neighbours, 2**n offsets of 0 and 1; by default each once, the first axis
    counting fastest.
    """

    def __init__(
        self, ndim: int, channels: int, corners: Sequence[tuple[int, ...]] | None = None
    ) -> None:
        super().__init__()
        # The first axis counts fastest, as in the published order of the neighbours.
        every = [c[::-1] for c in itertools.product((0, 1), repeat=ndim)]
        self.corners = every if corners is None else list(corners)
        if len(self.corners) != len(every):
            raise ValueError(f"{len(self.corners)} neighbours where {len(every)} are due")
        self.ndim = ndim
        self.norm = nn.LayerNorm(2**ndim * channels)
        self.reduction = nn.Linear(2**ndim * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_windows(x, (2,) * self.ndim)
        parts = [x[(slice(None), *(slice(k, None, 2) for k in corner))] for corner in self.corners]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class SwinEncoder(nn.Module):
    """The hierarchical Swin encoder: one map a level, each through its own LayerNorm.

    ``width`` channels at 1 / ``patch`` of the image, doubled and halved in size from level to
    level. ``windows`` is one side length a level. The drop-path rate grows linearly over all
    blocks to ``drop_path``.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        windows: Sequence[int],
        *,
        patch: int = 4,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        layer = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.embed = layer(inputs, width, patch, stride=patch)
        self.embed_norm = nn.LayerNorm(width)
        rates = iter(torch.linspace(0, drop_path, sum(depths), dtype=torch.float64).tolist())
        self.levels, self.merging, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (depth, head, side) in enumerate(zip(depths, heads, windows, strict=True)):
            channels = width * 2**level
            if level:
                self.merging.append(PatchMerging(ndim, channels // 2))
            blocks = [
                SwinBlock(channels, head, (side,) * ndim, shifted=k % 2 == 1, drop_path=next(rates))
                for k in range(depth)
            ]
            self.levels.append(nn.ModuleList(blocks))
            self.norms.append(nn.LayerNorm(channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, *S / (patch 2**level), C 2**level) of images (B, inputs, *S), fine to coarse."""
        x = self.embed_norm(self.embed(image).movedim(1, -1))
        maps = []
        for level, (blocks, norm) in enumerate(zip(self.levels, self.norms, strict=True)):
            if level:
                x = self.merging[level - 1](x)
            for block in blocks:  # type: ignore[union-attr, attr-defined]
                x = block(x)
            maps.append(norm(x))
        return maps
