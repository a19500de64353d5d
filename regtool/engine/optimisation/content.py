"""The part of a pair where there is anything to register."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from regtool.plugins.exchange import Pair, Prediction, Sample

_MARGIN = 8
"""Voxels kept around, for windows and smoothing."""

_WORTH = 0.85
"""With more than this part of the voxels inside, nothing is cut."""


class Content:
    """The box, over the whole batch, in which either image differs from its own least value.

    Scans of heads have air around them, often exactly zero: there the similarity says nothing, and
    a field that goes on as it ends at the box serves as well as one that is computed.
    """

    def __init__(self, pair: Pair) -> None:
        shape = pair.fixed.image.shape[2:]
        live = torch.zeros(shape, dtype=torch.bool, device=pair.fixed.image.device)
        for image in (pair.fixed.image, pair.moving.image):
            live |= (image > image.amin()).flatten(0, 1).any(0)
        self.low, self.high = [0] * len(shape), list(shape)
        for axis, n in enumerate(shape):
            rest = [a for a in range(len(shape)) if a != axis]
            at = live.sum(rest).nonzero()
            if len(at):
                self.low[axis] = max(0, int(at[0]) - _MARGIN)
                self.high[axis] = min(n, int(at[-1]) + 1 + _MARGIN)
        size = torch.tensor([b - a for a, b in zip(self.low, self.high, strict=True)])
        self.cuts = int(size.prod()) < _WORTH * live.numel()
        self.shape = tuple(shape)

    def cut(self, tensor: Tensor) -> Tensor:
        """What lies inside of (B, C, *S)."""
        inside = [slice(a, b) for a, b in zip(self.low, self.high, strict=True)]
        return tensor[(slice(None), slice(None), *inside)]

    def cut_pair(self, pair: Pair) -> Pair:
        """The pair inside; points count from the box's first voxel."""
        return Pair(self._cut_sample(pair.fixed), self._cut_sample(pair.moving))

    def _cut_sample(self, sample: Sample) -> Sample:
        def cut(t: Tensor | None) -> Tensor | None:
            return None if t is None else self.cut(t)

        points = sample.points
        if points is not None:
            points = points - points.new_tensor(self.low)
        return replace(
            sample, image=self.cut(sample.image), mask=cut(sample.mask),
            labels=cut(sample.labels), points=points,
        )  # fmt: skip

    def extend(self, inside: Prediction) -> Prediction:
        """Fields of the whole grid: outside the box they are as at its border."""

        def grown(t: Tensor | None) -> Tensor | None:
            return None if t is None else pad(t, self._margins(), mode="replicate")

        return replace(
            inside, displacement=grown(inside.displacement), velocity=grown(inside.velocity),
            inverse=grown(inside.inverse),
        )  # fmt: skip

    def _margins(self) -> list[int]:
        sides = zip(self.low, self.high, self.shape, strict=True)
        return [m for a, b, n in reversed(list(sides)) for m in (a, n - b)]
