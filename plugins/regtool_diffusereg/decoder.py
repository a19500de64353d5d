"""The UNETR decoder: residual blocks that know the step, and five ways up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api.nn import narrow_convolution
from regtool_diffusereg.encoder import run

_NARROW = 16


class TimedBlock(nn.Module):
    """Two convolutions with instance normalisation, the step's shift between them; residual."""

    def __init__(self, inputs: int, outputs: int, time: int | None) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.time = None if time is None else nn.Linear(time, outputs)
        same = inputs == outputs
        self.shortcut = None if same else nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, inputs, *S) and the embedded step (B, T) to (B, outputs, *S)."""
        h = functional.leaky_relu(_normalised(_convolved(self.first, x)))
        if self.time is not None:
            shift = self.time(functional.silu(time)).to(h.dtype)
            h = h + shift[:, :, None, None, None]
        h = _normalised(_convolved(self.second, h))
        rest = x if self.shortcut is None else _normalised(self.shortcut(x))
        return functional.leaky_relu(h + rest)


class UpBlock(nn.Module):
    """Twice the size, cut to that of the skip, and a residual block over both."""

    def __init__(self, inputs: int, outputs: int, time: int | None) -> None:
        super().__init__()
        self.larger = nn.ConvTranspose3d(inputs, outputs, 2, stride=2, bias=False)
        self.block = TimedBlock(2 * outputs, outputs, time)

    def forward(self, x: Tensor, skip: Tensor, time: Tensor) -> Tensor:
        """x (B, inputs, *s) and skip (B, outputs, *S) to (B, outputs, *S)."""
        x = self.larger(x)
        z, y, w = skip.shape[2:]
        x = x[..., :z, :y, :w]
        return self.block(torch.cat([x, skip.to(x.dtype)], 1), time)


class Decoder(nn.Module):
    """From the encoder's maps and the noisy field to ``outputs`` channels at full resolution.

    Skips at 1/8, 1/4, 1/2 and 1/1 and the deepest map at 1/32 pass a residual block each; that at
    1/16 does not, as in Swin UNETR (Hatamizadeh et al. 2022).
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, time: int | None, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        wide = [width, width, 2 * width, 4 * width]  # at 1/1, 1/2, 1/4, 1/8
        self.skips = nn.ModuleList(
            TimedBlock(inputs if n == 0 else w, w, time) for n, w in enumerate(wide)
        )
        self.deepest = TimedBlock(16 * width, 16 * width, time)
        steps = [(16, 8), (8, 4), (4, 2), (2, 1), (1, 1)]
        self.up = nn.ModuleList(UpBlock(a * width, b * width, time) for a, b in steps)
        self.last = nn.Conv3d(width, outputs, 1)

    def forward(self, field: Tensor, maps: Sequence[Tensor], time: Tensor) -> Tensor:
        """(B, outputs, *S) float32 from the input (B, inputs, *S) and five maps, fine to coarse."""
        again = self.checkpointing
        seen = [field, *maps[:3]]
        skips = [run(b, x, time, again=again) for b, x in zip(self.skips, seen, strict=True)]
        x = run(self.deepest, maps[4], time, again=again)
        for block, skip in zip(self.up, [maps[3], *reversed(skips)], strict=True):
            x = run(block, x, skip, time, again=again)
        with torch.autocast(x.device.type, enabled=False):
            return self.last(x.float())


def _convolved(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, by the faster path for few channels.

    Axes of two voxels keep to the layer itself, which training may have guarded
    (``protect_convolutions``).
    """
    narrow = x.shape[1] < _NARROW and 2 not in x.shape[2:]
    return narrow_convolution(layer, x) if narrow else layer(x)


def _normalised(x: Tensor) -> Tensor:
    """Each channel with mean 0 and variance 1; a single voxel, which has no spread, as it is."""
    return functional.instance_norm(x) if x[0, 0].numel() > 1 else x
