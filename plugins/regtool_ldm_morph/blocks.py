"""Residual, attention and downsampling blocks of the frozen networks, for registration.

They compute what the blocks of diffusers compute, under the same parameter names (a test compares
them), so that weights trained there load here. Importing diffusers takes longer than registering a
pair; training imports it, registration does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two times GroupNorm, SiLU and convolution, the time embedding added between them."""

    def __init__(
        self, inputs: int, outputs: int, groups: int, eps: float, time: int | None = None
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        if time is not None:
            self.time_emb_proj = nn.Linear(time, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Self attention over all places of a map, heads of ``depth`` channels, with its residual."""

    def __init__(self, channels: int, depth: int, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = channels // depth
        self.group_norm = nn.GroupNorm(groups, channels, eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (
            layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out[0](mixed).transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Strided convolution; ``lopsided`` pads only the far ends, as autoencoders do."""

    def __init__(self, channels: int, lopsided: bool) -> None:
        super().__init__()
        self.lopsided = lopsided
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if lopsided else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.lopsided else x)


class Down(nn.Module):
    """One level of a way down: residual blocks, each with attention if ``depth`` is given."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: int,
        groups: int,
        eps: float,
        *,
        depth: int | None,
        last: bool,
        time: int | None = None,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            Residual(inputs if k == 0 else outputs, outputs, groups, eps, time)
            for k in range(layers)
        )
        if depth is not None:
            self.attentions = nn.ModuleList(
                Attention(outputs, depth, groups, eps) for _ in range(layers)
            )
        self.attends = depth is not None
        self.downsamplers = None if last else nn.ModuleList([Downsample(outputs, time is None)])

    def forward(self, x: Tensor, time: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result, and that of each layer on the way."""
        outputs = []
        for k, block in enumerate(self.resnets):
            x = block(x, time)
            if self.attends:
                x = self.attentions[k](x)
            outputs.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            outputs.append(x)
        return x, tuple(outputs)


class Middle(nn.Module):
    """Residual block, attention with one head, residual block."""

    def __init__(self, channels: int, groups: int, eps: float) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, channels, groups, eps)])
        self.resnets = nn.ModuleList(Residual(channels, channels, groups, eps) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class TimeEmbedding(nn.Module):
    """Sinusoids of the step (Vaswani et al., 2017; cosines first) through a two-layer MLP."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.frequencies = channels // 2
        self.linear_1 = nn.Linear(channels, outputs)
        self.linear_2 = nn.Linear(outputs, outputs)

    def forward(self, t: Tensor) -> Tensor:
        places = torch.arange(self.frequencies, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(10_000) / self.frequencies * places)
        x = torch.cat([angles.cos(), angles.sin()], 1)
        return self.linear_2(F.silu(self.linear_1(x)))


class Encoder(nn.Module):
    """The encoder of VQGAN: images (B, 1, H, W) to (B, outputs, h, w)."""

    def __init__(
        self, outputs: int, widths: Sequence[int], layers: int, groups: int, attention: bool
    ) -> None:
        super().__init__()
        eps, deep = 1e-6, len(widths) - 1
        self.conv_in = nn.Conv2d(1, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Down(
                widths[max(k - 1, 0)],
                width,
                layers,
                groups,
                eps,
                depth=width if attention and k == deep else None,
                last=k == deep,
            )
            for k, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], groups, eps)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps)
        self.conv_out = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_in(image)
        for block in self.down_blocks:
            x, _ = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class FeatureHalf(nn.Module):
    """Stem, time embedding and way down of the diffusion U-Net; attention below the first level."""

    def __init__(self, channels: int, widths: Sequence[int], head: int, groups: int) -> None:
        super().__init__()
        time = 4 * widths[0]
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], time)
        self.down_blocks = nn.ModuleList(
            Down(
                widths[max(k - 1, 0)],
                width,
                2,
                groups,
                1e-5,
                depth=head if k else None,
                last=k == len(widths) - 1,
                time=time,
            )
            for k, width in enumerate(widths)
        )

    def time_proj(self, t: Tensor) -> Tensor:
        """Steps as they are: the embedding makes its sinusoids itself."""
        return t
