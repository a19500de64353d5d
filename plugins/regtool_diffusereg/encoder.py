"""The two Swin encoders: of the images, and of the noisy field that sees the images' tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from regtool.api.nn import PatchMerging
from regtool_diffusereg.attention import Keys, Shape, StreamAttention, Windowing

LEGACY = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))
"""The neighbours of the released patch merging: two of the eight twice, two not at all."""

DEPTH = 2
"""Blocks of a level; the second is shifted."""


class Block(nn.Module):
    """A Swin block whose windows may also see the same windows of other streams."""

    def __init__(
        self, channels: int, heads: int, window: Shape, shifted: bool, masked: bool = True
    ) -> None:
        super().__init__()
        self.window, self.shifted, self.masked = window, shifted, masked
        self.norm1 = nn.LayerNorm(channels)
        self.attention = StreamAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def windowing(self, x: Tensor) -> Windowing:
        """How this block cuts maps (B, *S, C)."""
        return Windowing(tuple(x.shape[1:-1]), self.window, self.shifted, self.masked)

    def tokens(self, x: Tensor) -> Tensor:
        """What attention sees of maps (B, *S, C): normalised, shifted, in windows."""
        return self.windowing(x).cut(self.norm1(x))

    def forward(
        self,
        x: Tensor,
        tokens: Tensor | None = None,
        streams: Sequence[Keys] = (),
        time: Keys | None = None,
    ) -> Tensor:
        """Maps (B, *S, C); ``tokens`` are those of ``x`` where they are known already."""
        windowing = self.windowing(x)
        own = self.tokens(x) if tokens is None else tokens
        forbidden = windowing.forbidden(x.device)
        x = x + windowing.join(self.attention(own, windowing.window, forbidden, streams, time))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Patch embedding, then four levels of two blocks, each followed by a merging of patches.

    Maps are channels last. ``patch``: voxels of a patch along each axis.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        heads: Sequence[int],
        window: Shape,
        patch: Shape = (2, 2, 2),
        *,
        legacy: bool = False,
        masked: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        z, y, x = patch
        self.embed = nn.Conv3d(inputs, width, (z, y, x), stride=(z, y, x))
        self.levels, self.merging = nn.ModuleList(), nn.ModuleList()
        for level, head in enumerate(heads):
            channels = width * 2**level
            blocks = [Block(channels, head, window, k % 2 == 1, masked) for k in range(DEPTH)]
            self.levels.append(nn.ModuleList(blocks))
            self.merging.append(PatchMerging(3, channels, LEGACY if legacy else None))

    def embedded(self, x: Tensor) -> Tensor:
        """Volumes (B, inputs, *S) as maps (B, *S / patch, width)."""
        return self.embed(x).movedim(1, -1)

    def run(self, module: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """``module(*arguments)``, whose inner results are computed anew for the gradient."""
        return run(module, *arguments, again=self.checkpointing)


class ImageEncoder(Encoder):
    """What the field's blocks see of an image: the tokens of each block before its attention."""

    def forward(self, image: Tensor) -> Iterator[Tensor]:
        """Tokens (B, windows, places, C) of images (B, 1, *S), block after block."""
        x = self.embedded(image)
        for level, blocks in enumerate(self.levels):
            for number, block in enumerate(blocks):  # type: ignore[arg-type, var-annotated]
                tokens = block.tokens(x)
                yield tokens
                if level == len(self.levels) - 1 and number == DEPTH - 1:
                    return  # nobody sees what follows, though it has parameters
                x = self.run(block, x, tokens)
            x = self.merging[level](x)


class FieldEncoder(Encoder):
    """The backbone: maps of the noisy field that know the images and the step."""

    @property
    def blocks(self) -> list[Block]:
        """All blocks in their order."""
        return [block for blocks in self.levels for block in blocks]  # type: ignore[union-attr, attr-defined]

    def forward(
        self, field: Tensor, times: Sequence[Tensor], streams: Sequence[Sequence[Keys]]
    ) -> list[Tensor]:
        """Maps (B, C, *S) at a half to a 32nd, each normalised over its channels.

        ``field`` (B, inputs, *S); ``times``: a token (B, C) for each level; ``streams``: for each
        block the keys and values of the images.
        """
        x = self.embedded(field)
        maps, seen = [_normalised(x)], iter(streams)
        for level, blocks in enumerate(self.levels):
            token = times[level][:, None, None]
            for block in blocks:  # type: ignore[union-attr, attr-defined]
                x = self.run(block, x, None, next(seen), block.attention.keys(token))
            x = self.merging[level](x)
            maps.append(_normalised(x))
        return maps


def run(module: Callable[..., Tensor], *arguments: Any, again: bool) -> Tensor:
    """``module(*arguments)``; with ``again``, activations are recomputed in the backward pass.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    """
    if not (again and torch.is_grad_enabled()):
        return module(*arguments)
    return checkpoint(module, *arguments, use_reentrant=False, preserve_rng_state=False)


def _normalised(x: Tensor) -> Tensor:
    """Channels first, each place with mean 0 and variance 1 over its channels."""
    return functional.layer_norm(x, x.shape[-1:]).movedim(-1, 1)
