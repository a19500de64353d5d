"""Self-similarity descriptors that look alike in images of different contrast."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from regtool.losses.box import box_sum, window_sizes


def mind_ssc(image: Tensor, radius: int = 1, dilation: int = 2) -> Tensor:
    """Self-similarity context of an image (B, 1, *S): (B, K, *S) in [0, 1], K 12 in 3-D, 4 in 2-D.

    Channel k compares the patches (edge ``2 radius + 1``) around two neighbours of a voxel that lie
    ``dilation`` voxels away along different axes: ``exp(-(D_k - min D) / V)``, D_k the mean squared
    difference of the patches, V the mean of D over k, kept within a thousandth and a thousand times
    its mean over the image. Outside the image voxels repeat. Their mean squared difference is the
    similarity of two images. Not differentiable in flat images, where all channels are one.

    Source: Heinrich et al., MICCAI 2013 (MIND-SSC), equations 1 and 2.
    """
    ndim = image.dim() - 2
    if image.shape[1] != 1 or ndim not in (2, 3):
        raise ValueError(f"an image is (B, 1, *S) with 2 or 3 axes, not {tuple(image.shape)}")
    x = image.to(torch.promote_types(image.dtype, torch.float32))
    reach = [dilation if n > 2 * dilation else 0 for n in x.shape[2:]]
    padded = F.pad(x, [p for n in reversed(reach) for p in (n, n)], mode="replicate")
    sizes = window_sizes(2 * radius + 1, x.shape[2:])
    ones = box_sum(torch.ones_like(x[:1]), sizes)
    distances = [
        box_sum((_at(padded, a, reach, x) - _at(padded, b, reach, x)).square(), sizes) / ones
        for a, b in _neighbours(ndim)
    ]
    d = torch.cat(distances, 1)
    d = d - d.amin(1, keepdim=True)
    spread = d.mean(1, keepdim=True)
    middle = spread.mean(tuple(range(1, d.dim())), keepdim=True).clamp(min=1e-12)
    return torch.exp(-d / torch.minimum(torch.maximum(spread, middle * 1e-3), middle * 1e3))


def _neighbours(ndim: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of neighbours (axis, side) along different axes: those at distance sqrt(2)."""
    around = [(axis, side) for axis in range(ndim) for side in (-1, 1)]
    return [(a, b) for a, b in itertools.combinations(around, 2) if a[0] != b[0]]


def _at(padded: Tensor, where: tuple[int, int], reach: list[int], like: Tensor) -> Tensor:
    axis, side = where
    for k, (n, size) in enumerate(zip(reach, like.shape[2:], strict=True)):
        start = n + (side * n if k == axis else 0)
        padded = padded.narrow(k + 2, start, size)
    return padded
