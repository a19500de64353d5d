"""Random patches of prepared pairs, for training on volumes that do not fit into memory whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from regtool.data.draws import uniform
from regtool.plugins.exchange import Pair, Sample

_TRIES = 8
_VARIES = 1e-3


def random_patch(pair: Pair, size: Sequence[int], generator: torch.Generator) -> Pair:
    """The same random box of ``size`` voxels out of both images, another one for each element.

    Masks, labels and the pair's field are cut alike; points move into the box's coordinates and
    may then lie outside of it. An axis shorter than its size stays whole. A place where one of the
    images is flat teaches nothing: up to 8 places are tried. Raises ValueError for a size of
    another dimension.
    """
    shape = tuple(pair.fixed.image.shape[2:])
    if len(size) != len(shape):
        raise ValueError(f"a patch of {tuple(size)} out of images of {shape}")
    edges = tuple(min(edge, n) for edge, n in zip(size, shape, strict=True))
    if edges == shape:
        return pair
    corners = [_corner(pair, b, edges, generator) for b in range(len(pair.fixed.image))]
    boxes = [_box(corner, edges) for corner in corners]

    def cut(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return torch.stack([t[:, *box] for t, box in zip(tensor, boxes, strict=True)])

    def part(sample: Sample) -> Sample:
        image, points = cut(sample.image), sample.points
        assert image is not None
        if points is not None:
            points = points - points.new_tensor(corners)[:, None]
        return replace(
            sample,
            image=image,
            mask=cut(sample.mask),
            labels=cut(sample.labels),
            points=points,
            original=cut(sample.original),
        )

    return Pair(part(pair.fixed), part(pair.moving), cut(pair.field))


def _corner(
    pair: Pair, element: int, edges: tuple[int, ...], generator: torch.Generator
) -> list[int]:
    """First voxel of a box in which both images vary, if one is found."""
    images = [s.compared[element] for s in (pair.fixed, pair.moving)]
    corner = [0] * len(edges)
    for _ in range(_TRIES):
        drawn = uniform(generator, len(edges)).tolist()
        corner = [
            int(u * (n - edge + 1))
            for u, n, edge in zip(drawn, images[0].shape[1:], edges, strict=True)
        ]
        parts = [image[:, *_box(corner, edges)] for image in images]
        if all(float(p.max() - p.min()) > _VARIES for p in parts):
            break
    return corner


def _box(corner: Sequence[int], edges: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(c, c + edge) for c, edge in zip(corner, edges, strict=True))
