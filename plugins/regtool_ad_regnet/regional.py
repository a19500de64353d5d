"""Regional adaptive attention: how much each region of the image counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api.nn import cropped


@dataclass(frozen=True)
class Regions:
    """Maps (B, C, *S) weighted region by region, and what counts: a map (B, 1, *S) in (0, 1]."""

    maps: Tensor
    importance: Tensor


class RegionalAttention(nn.Module):
    """Patches' mean features attend to each other; a softmax over the patches weights them.

    Source: METHODS 7.2 and 7.7.4: read literally, the weighted sum would collapse all patches into
    one, so patch i is multiplied in place by ``N w_i`` and the maps themselves are added.
    ``patch`` voxels of the map a side (7.7.5), the last of an axis smaller. ``soft``, which the
    paper does not have, lets the weights run linearly from patch to patch instead of jumping, and
    keeps scores within -1 and 1: without bounds one patch soon has all the weight.
    """

    def __init__(self, channels: int, patch: int, soft: bool = False) -> None:
        super().__init__()
        self.patch, self.soft = patch, soft
        self.attend = nn.Linear(channels, 3 * channels)
        self.score = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Regions:
        """Weight maps (B, C, *S)."""
        shape = tuple(x.shape[2:])
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weights(x)
        smooth = self._spread(weight, shape, "trilinear")
        importance = smooth / smooth.amax((2, 3, 4), keepdim=True)
        sharp = smooth if self.soft else self._spread(weight, shape, "nearest")
        if torch.is_grad_enabled():
            return Regions(x * (1 + sharp).to(x.dtype), importance)
        return Regions(x.mul_(sharp.add_(1) if sharp is not smooth else 1 + sharp), importance)

    def weights(self, x: Tensor) -> Tensor:
        """``N w_i`` of each patch, (B, 1, *patches), mean 1, for maps (B, C, *S)."""
        described = _means(x, self.patch)
        tokens = described.flatten(2).transpose(1, 2)
        q, k, v = self.attend(tokens).chunk(3, -1)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        score = self.score(mixed)[..., 0]
        weight = (score.tanh() if self.soft else score).softmax(-1) * tokens.shape[1]
        return weight.reshape(x.shape[0], 1, *described.shape[2:])

    def _spread(self, weight: Tensor, shape: tuple[int, ...], mode: str) -> Tensor:
        """Weights of patches at every voxel of the map."""
        wide = functional.interpolate(
            weight,
            scale_factor=float(self.patch),
            mode=mode,
            align_corners=False if mode == "trilinear" else None,
        )
        return cropped(wide, shape)


def _means(x: Tensor, patch: int) -> Tensor:
    """Mean of each patch, (B, C, *patches) float32; beyond the far edge nothing counts."""
    sides = [min(patch, n) for n in x.shape[2:]]
    return functional.avg_pool3d(x.float(), sides, ceil_mode=True, count_include_pad=False)
