"""The U-Net that both images go through, one after the other, with the same weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from regtool_ad_regnet.slabs import Normalised, convolve, doubled


class Block(nn.Module):
    """Two 3 x 3 x 3 convolutions, each with instance norm and LeakyReLU.

    The convolutions have no bias, which the norm would take away again.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(Normalised(outputs) for _ in range(2))

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Of maps side by side; without gradients the list is emptied, so that they can go."""
        x = self.norms[0](convolve(self.first, *parts))
        if not torch.is_grad_enabled():
            parts.clear()
        return self.norms[1](convolve(self.second, x))


class UNet(nn.Module):
    """Features of an image at every level (METHODS 7.2).

    Two convolutions a level, one of 2 x 2 x 2 and stride 2 that keeps the channels between levels,
    a transposed one back up, the skip beside it, two convolutions. ``stem`` > 1 reads the image
    in cubes of that size first, so that the finest level has voxels as large.
    """

    def __init__(self, widths: Sequence[int], stem: int = 1, checkpointing: bool = False) -> None:
        super().__init__()
        inputs = stem**3
        self.stem = nn.Conv3d(1, inputs, stem, stride=stem) if stem > 1 else None
        self.encode = nn.ModuleList(
            Block(i, o) for i, o in zip([inputs, *widths[:-1]], widths, strict=True)
        )
        self.halve = nn.ModuleList(nn.Conv3d(w, w, 2, stride=2) for w in widths[:-1])
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(deep, w, 2, stride=2) for w, deep in itertools.pairwise(widths)
        )
        self.decode = nn.ModuleList(Block(2 * w, w) for w in widths[:-1])
        self.checkpointing = checkpointing

    def forward(self, image: Tensor) -> list[Tensor]:
        """Decoder features from fine to coarse, the last the deepest, of images (B, 1, *S).

        Sizes are multiples of ``stem * 2 ** (levels - 1)``.
        """
        x = image if self.stem is None else self.stem(image)
        skips: list[Tensor] = []
        for encode, halve in zip(self.encode, [*self.halve, None], strict=True):
            x = self._run(encode, [x])
            if halve is not None:
                skips.append(x)
                x = halve(x)
        features = [x]
        for enlarge, decode in zip(reversed(self.enlarge), reversed(self.decode), strict=True):
            parts = [doubled(enlarge, x), skips.pop()]
            x = self._run(decode, parts)
            features.append(x)
        return features[::-1]

    def _run(self, block: nn.Module, parts: list[Tensor]) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, parts, use_reentrant=False)
        return block(parts)
