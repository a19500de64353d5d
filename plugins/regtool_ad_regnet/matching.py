"""Where a level's features match: local correlation of both images, not in the paper."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool_ad_regnet.slabs import in_slabs, slabs

_GAIN = 5.0
"""Correlations of one place differ little; the convolutions behind get them larger."""


class Matching(nn.Module):
    """Cosines of the fixed features with moving features up to ``radius`` voxels away, each axis.

    As in optical flow by pyramids (PWC-Net, Sun et al., CVPR 2018). The places' mean, weighted by a
    softmax of the cosines that a learnt number sharpens, is a displacement; the level adds it to
    its head's answer, ``share`` times, so training need not find out first what a match means.
    """

    way: Tensor

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.radius = radius
        way = torch.tensor(_ways(radius), dtype=torch.float32)
        self.register_buffer("way", way, persistent=False)
        self.sharpness = nn.Parameter(torch.tensor(10.0))
        self.share = nn.Parameter(torch.tensor(0.5))

    @property
    def channels(self) -> int:
        """Of the first map that ``forward`` gives."""
        return len(self.way)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """Correlations (B, ``channels``, *S) in the features' type, the displacement (B, 3, *S).

        Features (B, C, *S); the displacement is float32, in voxels of the map. Beyond the edge the
        outermost moving features go on.
        """
        with torch.autocast(fixed.device.type, enabled=False):
            if not in_slabs(fixed):
                return self._match(fixed, moving, self.radius, self.radius)
            return self._by_slabs(fixed, moving)

    def _by_slabs(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        depth, r = fixed.shape[2], self.radius
        plane = fixed[:, :, 0].numel() * 3 + fixed[:, 0, 0].numel() * self.channels
        found = []
        for start, stop in slabs(depth, plane):
            low, top = max(start - r, 0), min(stop + r, depth)
            missing = r - (start - low), r - (top - stop)
            found.append(self._match(fixed[:, :, start:stop], moving[:, :, low:top], *missing))
        values, ways = zip(*found, strict=True)
        return torch.cat(values, 2), torch.cat(ways, 2)

    def _match(self, fixed: Tensor, moving: Tensor, low: int, top: int) -> tuple[Tensor, Tensor]:
        """``low`` and ``top`` planes of ``moving`` are missing below and above."""
        f, m = (functional.normalize(x.float(), dim=1) for x in (fixed, moving))
        r = self.radius
        m = functional.pad(m, (r, r, r, r, low, top), mode="replicate")
        z, y, x = f.shape[2:]
        cosines = torch.stack(
            [
                (f * m[:, :, r + a : r + a + z, r + b : r + b + y, r + c : r + c + x]).sum(1)
                for a, b, c in _ways(self.radius)
            ],
            1,
        )
        chances = (self.sharpness * cosines).softmax(1)
        way = torch.einsum("bnzyx,nk->bkzyx", chances, self.way)
        spread = _GAIN * (cosines - cosines.mean(1, keepdim=True))
        return spread.to(fixed.dtype), way


def _ways(radius: int) -> list[tuple[int, ...]]:
    """Steps along z, y, x of up to ``radius`` voxels."""
    return list(itertools.product(range(-radius, radius + 1), repeat=3))


def smoothed(way: Tensor) -> Tensor:
    """Mean over 3 x 3 x 3 voxels of a displacement (B, 3, *S); the outermost go on."""
    return functional.avg_pool3d(functional.pad(way, (1,) * 6, mode="replicate"), 3, 1)
