"""The denoiser whole: shared image encoder, field encoder, time embedding and decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regtool.api.nn import TimeEmbedding
from regtool_diffusereg.attention import Keys
from regtool_diffusereg.decoder import Decoder
from regtool_diffusereg.encoder import FieldEncoder, ImageEncoder

AXES = 3


@dataclass(frozen=True)
class Seen:
    """What the denoiser keeps of a pair of images: it does not depend on the step.

    ``streams``: for each block of the field encoder the keys and values of the moving and of the
    fixed image. ``beside``: both images as channels beside the field, or None. ``moving`` (B, 1,
    *S): the moving image, for whoever warps it.
    """

    streams: list[list[Keys]]
    beside: Tensor | None
    moving: Tensor


class Denoiser(nn.Module):
    """The network of Zhuo and Shen (MICCAI 2024): a Swin UNETR whose windows see both images.

    ``width`` is the feature size F. ``legacy_merging`` repeats the released patch merging;
    ``time_in_blocks`` off takes the step from the residual blocks, ``mask`` off the shifted-window
    mask from the attention to field and images. ``checkpointing`` trades time for memory.

    Not in the paper: ``scale``, voxels of the images for each voxel of the field along each axis;
    ``streams``, learned vectors that tell moving from fixed tokens (without them the network's
    answer is the same for exchanged images); ``images``, both images beside the field at the input;
    ``guess``, there as well a first guess of the field and the moving image as it warps it;
    ``zero_output``, a last layer that starts at zero.
    """

    def __init__(
        self,
        width: int,
        heads: Sequence[int] = (3, 6, 12, 24),
        window: Sequence[int] = (2, 4, 4),
        *,
        legacy_merging: bool = False,
        time_in_blocks: bool = True,
        mask: bool = True,
        checkpointing: bool = False,
        scale: Sequence[int] = (1, 1, 1),
        streams: bool = False,
        images: bool = False,
        guess: bool = False,
        zero_output: bool = False,
    ) -> None:
        super().__init__()
        self.scale, size = tuple(scale), tuple(window)
        inputs = AXES * (1 + guess) + (2 * images + guess) * math.prod(self.scale)
        patch = tuple(2 * s for s in self.scale)
        common = {"legacy": legacy_merging, "checkpointing": checkpointing}
        self.images = ImageEncoder(1, width, heads, size, patch, **common)  # type: ignore[arg-type]
        self.field = FieldEncoder(inputs, width, heads, size, masked=mask, **common)  # type: ignore[arg-type]
        self.time = TimeEmbedding(width)
        widths = [width * 2**level for level in range(len(heads))]
        self.tokens = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, channels)) for channels in widths
        )
        self.streams: nn.ParameterList | None = None
        if streams:
            self.streams = nn.ParameterList(torch.randn(2, channels) for channels in widths)
        self.beside, self.guess = images, guess
        time = width if time_in_blocks else None
        self.decoder = Decoder(inputs, width, AXES, time, checkpointing)
        if zero_output:
            nn.init.zeros_(self.decoder.last.weight)
            assert self.decoder.last.bias is not None
            nn.init.zeros_(self.decoder.last.bias)

    @property
    def multiple(self) -> tuple[int, ...]:
        """Image sizes have to be multiples of this; smaller maps are completed inside."""
        return tuple(2 * s for s in self.scale)

    def see(self, moving: Tensor, fixed: Tensor) -> Seen:
        """Look at images (B, 1, *S), jointly normalised to mean 0 and SD 1."""
        batch = len(moving)
        both = torch.cat([moving, fixed])
        blocks = self.field.blocks
        per_level = len(blocks) // len(self.tokens)
        found = []
        for number, (block, tokens) in enumerate(zip(blocks, self.images(both), strict=True)):
            each = [tokens[:batch], tokens[batch:]]
            if self.streams is not None:
                names = self.streams[number // per_level]
                each = [x + name.to(x.dtype) for x, name in zip(each, names, strict=True)]
            found.append([block.attention.keys(x) for x in each])
        beside = torch.cat([_unshuffled(x, self.scale) for x in (moving, fixed)], 1)
        return Seen(found, beside if self.beside else None, moving)

    def forward(
        self,
        state: Tensor,
        t: Tensor,
        seen: Seen,
        guess: Tensor | None = None,
        warped: Tensor | None = None,
    ) -> Tensor:
        """The network's answer (B, 3, *s) float32 to noisy fields (B, 3, *s) at steps ``t``.

        ``t`` (B,) or (1,) int64; ``s`` is the images' size over ``scale``. ``guess`` (B, 3, *s) of
        the field and ``warped`` (B, 1, *S), the moving image by it, for a network that asks.
        """
        time = self.time(t.expand(len(state)))
        shown = [state]
        if seen.beside is not None:
            shown.append(seen.beside)
        if self.guess:
            assert guess is not None and warped is not None
            shown += [guess, _unshuffled(warped, self.scale)]
        state = torch.cat(shown, 1)
        maps = self.field(state, [layer(time) for layer in self.tokens], seen.streams)
        return self.decoder(state, maps, time)


def _unshuffled(image: Tensor, scale: tuple[int, ...]) -> Tensor:
    """An image (B, 1, *S) as (B, voxels of a cell, *S / scale)."""
    if scale == (1, 1, 1):
        return image
    batch, _, *size = image.shape
    split = [n for s, k in zip(size, scale, strict=True) for n in (s // k, k)]
    parts = image.reshape(batch, *split).permute(0, 2, 4, 6, 1, 3, 5)
    return parts.reshape(batch, math.prod(scale), *split[::2])
