"""Attention among all voxels of an image, in full and at a cost that grows with their number."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def linear_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention whose keys are normalised over space before they meet the values.

    ``q``, ``k``, ``v`` and the answer (B, C, *S); ``heads`` divides C. Source: Shen et al.,
    "Efficient Attention", WACV 2021, without the softmax of the queries.
    """
    batch, channels = q.shape[:2]
    shape = (batch, heads, channels // heads, -1)
    summary = k.reshape(shape).softmax(-1) @ v.reshape(shape).transpose(-1, -2)  # keys, values
    found = summary.transpose(-1, -2).to(q.dtype) @ q.reshape(shape)
    return found.reshape(q.shape)


class FullAttention(nn.Module):
    """Every voxel attends to every other in one head of all channels; residual."""

    def __init__(self, ndim: int, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        layer = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.qkv = layer(channels, 3 * channels, 1, bias=False)
        self.out = layer(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        found = functional.scaled_dot_product_attention(q, k, v)  # scaled by sqrt(channels)
        return x + self.out(found.transpose(1, 2).reshape(x.shape))


class LinearAttention(nn.Module):
    """``linear_attention`` of a feature map with itself; residual."""

    def __init__(self, ndim: int, channels: int, groups: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        layer = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.qkv = layer(channels, 3 * channels, 1, bias=False)
        self.out = layer(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=1)
        return x + self.out(linear_attention(q, k, v, self.heads))


ATTENTION: dict[str, type[FullAttention] | type[LinearAttention]] = {
    "full": FullAttention,
    "linear": LinearAttention,
}
"""What the setting ``attention`` of a ``ScoreNetwork`` may be."""
