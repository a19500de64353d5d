"""Overlapping tiles for images that do not go through a network whole, and their blending."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from regtool.plugins.exchange import Pair, Sample

Tile = tuple[slice, ...]


def plan_tiles(shape: tuple[int, ...], tile: tuple[int, ...], overlap: float) -> list[Tile]:
    """Tiles of size ``tile`` that cover ``shape``; neighbours share ``overlap`` of their edge.

    The last tile of an axis ends at its edge, so tiles may overlap more than asked.
    """
    starts = []
    for size, edge in zip(shape, tile, strict=True):
        step = max(1, round(edge * (1 - overlap)))
        count = 1 if size <= edge else -(-(size - edge) // step) + 1
        starts.append([min(i * step, max(size - edge, 0)) for i in range(count)])
    return [
        tuple(slice(s, s + edge) for s, edge in zip(corner, tile, strict=True))
        for corner in itertools.product(*starts)
    ]


def tile_weight(tile: tuple[int, ...], device: torch.device) -> Tensor:
    """Blending weight of a tile, (*tile): a raised cosine, positive everywhere."""
    weight = torch.ones((), device=device)
    for edge in tile:
        line = torch.sin(torch.pi * (torch.arange(edge, device=device) + 0.5) / edge) ** 2
        weight = weight[..., None] * (line + 1e-3)
    return weight


def cut(pair: Pair, tile: Tile) -> Pair:
    """The part of a pair and its field inside a tile; landmarks move into its coordinates."""
    where = (slice(None), slice(None), *tile)
    corner = torch.tensor([float(part.start) for part in tile])

    def of(sample: Sample) -> Sample:
        return Sample(
            sample.image[where],
            sample.spacing,
            None if sample.mask is None else sample.mask[where],
            None if sample.labels is None else sample.labels[where],
            None if sample.points is None else sample.points - corner.to(sample.points),
            sample.modality,
            sample.directions,
            None if sample.original is None else sample.original[where],
        )

    field = None if pair.field is None else pair.field[where]
    return Pair(of(pair.fixed), of(pair.moving), field)


def blended(
    pair: Pair, tile: tuple[int, ...], overlap: float, predict: Callable[[Pair], Tensor]
) -> Tensor:
    """Displacement (B, ndim, *S) of a whole pair from those of its tiles.

    Where tiles overlap their displacements are averaged, weighted towards each tile's middle, so
    the field has no seams. ``predict`` answers (B, ndim, *tile).
    """
    image = pair.fixed.image
    shape = tuple(image.shape[2:])
    if any(size < edge for size, edge in zip(shape, tile, strict=True)):
        raise ValueError(f"tiles of {tile} in an image of {shape}")
    weight = tile_weight(tile, image.device)
    total = image.new_zeros(image.shape[0], len(shape), *shape, dtype=torch.float32)
    share = image.new_zeros(shape, dtype=torch.float32)
    for part in plan_tiles(shape, tile, overlap):
        total[(slice(None), slice(None), *part)] += weight * predict(cut(pair, part))
        share[part] += weight
    return total / share
