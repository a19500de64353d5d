"""Latent and global cross attention (LGCA): Swin blocks between two feature maps of one level."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from regtool.api.nn import SwinBlock
from regtool.api.train import choice

SecondBlock = Literal["cross", "self"]
SECOND_BLOCKS: tuple[SecondBlock, ...] = ("cross", "self")


class LGCA(nn.Module):
    """Two window-attention blocks, the second shifted, and a closing LayerNorm.

    ``forward(x, query)``: queries come from ``query``; keys, values and the residual from ``x``.
    With ``second="cross"`` (released code) the second block asks the same, unchanged ``query``;
    with ``"self"`` (the paper's drawing) it is self attention. The module is called in both
    directions with the same weights. Drop path has the first two rates of the encoder's ramp over
    ten blocks.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        drop_path: float = 0.3,
        second: SecondBlock = "cross",
    ) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, 10, dtype=torch.float64)[:2].tolist()
        self.first, self.second = (
            SwinBlock(channels, heads, (window, window), shifted=shifted, drop_path=rate)
            for shifted, rate in zip((False, True), rates, strict=True)
        )
        self.norm = nn.LayerNorm(channels)
        self.crosses_twice = choice({"second": second}, "second", SECOND_BLOCKS) == "cross"

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        """Maps (B, C, h, w) in and out."""
        x, query = x.movedim(1, -1), query.movedim(1, -1)
        x = self.first(x, query)
        x = self.second(x, query if self.crosses_twice else None)
        return self.norm(x).movedim(-1, 1)
