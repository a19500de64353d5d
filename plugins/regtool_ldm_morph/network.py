"""The registration network: a Swin stream on the pair, diffusion features, LGCA, a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regtool.api.nn import SwinEncoder
from regtool_ldm_morph.decoder import Convolution, Head, UpBlock, double
from regtool_ldm_morph.lgca import LGCA

MULTIPLE = 32
"""Image sizes must be divisible by this: patches of 4, then three halvings."""


class RegistrationNetwork(nn.Module):
    """Images (B, 1, H, W) and features of four levels to a displacement (B, 2, H, W) in voxels.

    ``taps`` are the channels of the features of both images at each level; None leaves them out
    (the paper's ablation "lower stream only"). With ``cross_attention`` off, features and Swin
    maps are skips side by side, and are added at the deepest level. ``unused`` also builds the
    2.37 M parameters that the released network holds but never uses.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        taps: Sequence[int] | None,
        *,
        cross_attention: bool = True,
        second_block: str = "cross",
    ) -> None:
        super().__init__()
        width, windows, drop = settings["width"], settings["windows"], settings["drop_path"]
        widths = [width * 2**level for level in range(4)]
        self.swin = SwinEncoder(
            2, 2, width, settings["depths"], settings["heads"], windows, drop_path=drop
        )
        self.project = nn.ModuleList()
        self.lgca = nn.ModuleList()
        if taps is not None:
            for inputs, outputs in zip(taps, widths, strict=True):
                layer = nn.Conv2d(inputs, outputs, 3, padding=1)
                self.project.append(nn.Sequential(layer, nn.PReLU()))
        if taps is not None and cross_attention:
            for w, window in zip(widths, windows, strict=True):
                heads = settings["cross_heads"]
                self.lgca.append(LGCA(w, heads, window, drop, second_block))  # type: ignore[arg-type]
        streams = 1 if taps is None else 2
        half = width // 2
        self.thumbnail = Convolution(2, half)
        self.up = nn.ModuleList(
            UpBlock(deep, streams * skip, skip)
            for deep, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.up.append(UpBlock(width, half, half))
        self.head = Head(half)
        if settings["unused"]:
            self.unused = _unused(widths, half)

    def forward(self, moving: Tensor, fixed: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        pair = torch.cat([moving, fixed], 1)
        lower = [x.movedim(-1, 1) for x in self.swin(pair)]
        latent = [layer(x) for layer, x in zip(self.project, features, strict=True)]
        deepest, skips = self._joined(lower, latent)
        x = deepest
        for block, skip in zip(self.up, skips, strict=False):
            x = block(x, skip)
        x = self.up[-1](x, [self.thumbnail(F.avg_pool2d(pair, 3, stride=2, padding=1))])
        return _in_voxels(self.head(double(x)))

    def _joined(
        self, lower: list[Tensor], latent: list[Tensor]
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """The deepest map, and the skips of the finer levels from coarse to fine."""
        if not latent:
            return lower[-1], [[x] for x in lower[-2::-1]]
        if not self.lgca:
            pairs = [[x, z] for x, z in zip(lower[-2::-1], latent[-2::-1], strict=True)]
            return lower[-1] + latent[-1], pairs
        *finer, last = self.lgca
        skips = [
            [module(x, z), module(z, x)] for module, x, z in zip(finer, lower, latent, strict=False)
        ]
        return last(lower[-1], latent[-1]), skips[::-1]


def _in_voxels(normalised: Tensor) -> Tensor:
    """Units of half an image, corner to corner, to voxels: times (n - 1) / 2."""
    sizes = [(n - 1) / 2 for n in normalised.shape[2:]]
    return normalised * normalised.new_tensor(sizes)[:, None, None]


def _unused(widths: Sequence[int], half: int) -> nn.ModuleList:
    """The layers of the released network that no forward pass reaches."""
    levels = zip(widths[:0:-1], widths[-2::-1], strict=True)
    dead: list[nn.Module] = [Convolution(deep + skip, skip) for deep, skip in levels]
    dead.append(Convolution(widths[0] + 2 * half, half))
    norms = [nn.LayerNorm(w) for w in widths for _ in range(3)]
    return nn.ModuleList([*dead, Convolution(2, half), Convolution(2, half // 2), *norms])
