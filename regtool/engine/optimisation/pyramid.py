"""Levels of resolution: sizes, images, masks and points at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regtool.plugins.exchange import Pair, Sample
from regtool.spatial.resize import resize_image
from regtool.spatial.smooth import gaussian

_SMALLEST = 16
"""An axis is not halved below this many voxels, so thin stacks keep their slices."""


@dataclass(frozen=True)
class Level:
    """A pair at one resolution; ``steps``: voxel sizes in units of the finest axis."""

    fixed: Sample
    moving: Sample
    steps: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the grid in tensor axis order."""
        return tuple(self.fixed.image.shape[2:])


def shapes(shape: Sequence[int], spacing: Sequence[float], levels: int) -> list[tuple[int, ...]]:
    """Sizes of the levels, coarse to fine: widely spaced and short axes are halved later."""
    sizes, steps, found = list(shape), list(spacing), [tuple(shape)]
    for _ in range(levels - 1):
        finest = min(steps)
        for axis, size in enumerate(sizes):
            if size >= 2 * _SMALLEST and steps[axis] < 1.5 * finest:
                sizes[axis], steps[axis] = (size + 1) // 2, steps[axis] * 2
        found.append(tuple(sizes))
    return found[::-1]


def at_level(pair: Pair, size: tuple[int, ...]) -> Level:
    """The pair on a corner-aligned grid of ``size``: images smoothed before they shrink."""
    whole = tuple(pair.fixed.image.shape[2:])
    ratios = [(a - 1) / (b - 1) if b > 1 else 1.0 for a, b in zip(whole, size, strict=True)]
    spacing = tuple(h * r for h, r in zip(pair.fixed.spacing, ratios, strict=True))
    finest = min(h for h, n in zip(spacing, size, strict=True) if n > 1)

    def made(sample: Sample) -> Sample:
        return Sample(
            shrink(sample.image.float(), size),
            spacing,
            None if sample.mask is None else shrink(sample.mask.float(), size),
            None if sample.labels is None else resize_image(sample.labels, size, mode="nearest"),
            None if sample.points is None else sample.points / sample.points.new_tensor(ratios),
            sample.modality,
        )

    return Level(made(pair.fixed), made(pair.moving), tuple(h / finest for h in spacing))


def shrink(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """An image (B, C, *S) on a coarser corner-aligned grid, without aliasing."""
    ratios = [old / new for old, new in zip(image.shape[2:], size, strict=True)]
    if max(ratios) <= 1:
        return image
    return resize_image(gaussian(image, [0.5 * r if r > 1 else 0.0 for r in ratios]), size)


def still(level: Level) -> Tensor:
    """The zero displacement of a level, (B, ndim, *S)."""
    image = level.fixed.image
    return torch.zeros(
        image.shape[0], len(level.shape), *level.shape, device=image.device, dtype=torch.float32
    )
