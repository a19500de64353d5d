"""One level's field, and how it joins the coarser ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api.spatial import compose, integrate, warp
from regtool_ad_regnet.attention import CrossAttention
from regtool_ad_regnet.matching import Matching, smoothed
from regtool_ad_regnet.regional import RegionalAttention
from regtool_ad_regnet.slabs import SLOPE, convolve

Drop = Callable[[Tensor], Tensor]
"""Dropout of the maps (B, C, *S) that a head reads."""


@dataclass(frozen=True)
class Answer:
    """What a level says. Fields (B, 3, *s) float32 in voxels of the level's own grid.

    ``field`` is Phi_l, fused with the coarser ones; ``update`` phi_l, the level's own; ``weight``
    W_l (B, 1, *s), None at the coarsest; ``importance`` the regional map in (0, 1], None without.
    """

    field: Tensor
    update: Tensor
    weight: Tensor | None
    importance: Tensor | None


class Compare(nn.Module):
    """Both images' features side by side, three convolutions: not in the paper.

    Attention hands over what was found, not where; this sees what differs in the same place, and
    ``more`` channels of what ``Matching`` found.
    """

    def __init__(self, channels: int, width: int, more: int = 0) -> None:
        super().__init__()
        self.narrow = nn.Conv3d(2 * channels + more, width, 1)
        self.inner = nn.Conv3d(width, width, 3, padding=1)
        self.widen = nn.Conv3d(width, channels, 3, padding=1)

    def forward(self, *maps: Tensor) -> Tensor:
        x = functional.leaky_relu(convolve(self.narrow, *maps), SLOPE)
        x = functional.leaky_relu(convolve(self.inner, x), SLOPE)
        return convolve(self.widen, x)


class Gate(nn.Module):
    """``sigmoid(conv([A_l, up(Phi_{l+1})]))``: how much a level's own field counts."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Conv3d(channels + 3, width, 3, padding=1)
        self.outer = nn.Conv3d(width, 1, 3, padding=1)

    def forward(self, maps: Tensor, coarse: Tensor) -> Tensor:
        x = convolve(self.inner, maps, coarse.to(maps.dtype))
        x = functional.leaky_relu(x, SLOPE, inplace=not torch.is_grad_enabled())
        return convolve(self.outer, x).float().sigmoid()


class Level(nn.Module):
    """Attention of both kinds on a level's features, its field, and the fusion.

    ``settings`` are the network's; ``patch`` is the side of a region in voxels of this level, and
    what the head puts out counts ``scale`` times.
    """

    def __init__(
        self,
        channels: int,
        patch: int,
        coarsest: bool,
        settings: Mapping[str, Any],
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.attention = self.compare = self.merge = self.regional = self.gate = None
        self.matching = Matching(settings["correlate"]) if settings["correlate"] else None
        if settings["attention"]:
            self.attention = CrossAttention(channels, **settings["cross"])
        if settings["compare"]:
            more = 0 if self.matching is None else self.matching.channels + 3
            self.compare = Compare(channels, settings["compare"], more)
        elif not settings["attention"]:
            self.merge = nn.Conv3d(2 * channels, channels, 1)
        if settings["regional"]:
            self.regional = RegionalAttention(channels, patch, settings["soft_regions"])
        self.head = nn.Conv3d(channels, 3, 3, padding=1)
        if settings["flow_init"] is not None:
            nn.init.normal_(self.head.weight, 0.0, settings["flow_init"])
            if self.head.bias is not None:
                nn.init.zeros_(self.head.bias)
        if not coarsest:
            self.gate = Gate(channels, settings["gate"])
        self.gated = bool(settings["regions_gate"])
        self.composes = settings["fusion"] == "compose"
        self.guided, self.squarings = bool(settings["guided"]), int(settings["integrate"])

    def forward(
        self,
        fixed: Tensor,
        moving: Tensor,
        coarse: Tensor | None = None,
        mask: Tensor | None = None,
        drop: Drop | None = None,
    ) -> Answer:
        """The level's answer to features (B, C, *s) of both images.

        ``coarse`` is Phi_{l+1} in voxels of its own grid, ``mask`` (B, 1, *s) in [0, 1] stands for
        M_l in place of the regional map.
        """
        above = None if coarse is None else enlarged(coarse)
        maps, importance, way = self._seen(fixed, self._read(moving, above))
        if drop is not None:
            maps = drop(maps)
        # Voxels need the digits: float32 even under mixed precision.
        with torch.autocast(maps.device.type, enabled=False):
            update = self.scale * convolve(self.head, maps.float())
            if way is not None:
                update = update + way
        if above is None or self.gate is None:
            return Answer(self._moved(update), update, None, importance)
        weight = self.gate(maps, above)
        if mask is not None:
            weight = weight * mask
        elif importance is not None and self.gated:
            weight = weight * importance
        with torch.autocast(maps.device.type, enabled=False):
            if self.composes:
                field = compose(above, self._moved(weight * update))
            else:
                field = torch.lerp(above, update, weight)
        return Answer(field, update, weight, importance)

    def read(self, moving: Tensor, coarse: Tensor | None) -> Tensor:
        """The moving features, read through the coarser field where the network is guided."""
        return self._read(moving, None if coarse is None else enlarged(coarse))

    def _read(self, moving: Tensor, above: Tensor | None) -> Tensor:
        if above is None or not self.guided:
            return moving
        with torch.autocast(moving.device.type, enabled=False):
            return warp(moving, above).to(moving.dtype)

    def _seen(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The maps A_l that the head reads, the regional map, and what matching adds to the head's
        displacement."""
        parts, way = [], None
        if self.attention is not None:
            parts.append(self.attention(fixed, moving))
        if self.compare is not None:
            both = [fixed, moving]
            if self.matching is not None:
                matches, found = self.matching(fixed, moving)
                both += [matches, found.to(fixed.dtype)]
                way = self.matching.share * smoothed(found)
            parts.append(self.compare(*both))
        if self.merge is not None:
            parts.append(convolve(self.merge, fixed, moving))
        maps = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        if self.regional is None:
            return maps, None, way
        regions = self.regional(maps)
        return regions.maps, regions.importance, way

    def _moved(self, field: Tensor) -> Tensor:
        """A velocity's displacement, where levels are composed of velocities."""
        if not self.composes or not self.squarings:
            return field
        with torch.autocast(field.device.type, enabled=False):
            return integrate(field, self.squarings)


def enlarged(field: Tensor, times: int = 2) -> Tensor:
    """A field (B, 3, *s) in voxels of s on a grid ``times`` as fine, in voxels of that one.

    A coarse voxel covers ``times`` fine ones a side, as strided convolutions make them, so its
    middle lies between theirs (not corner to corner, as in ``regtool.api.spatial.resize``).
    """
    if times == 1:
        return field
    wide = functional.interpolate(
        field, scale_factor=float(times), mode="trilinear", align_corners=False
    )
    return wide * times
