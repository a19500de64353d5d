"""Contrasts that no scanner gave: for networks that are to know shapes, not intensities."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.data.draws import smooth_field, symmetric, uniform

_EMPTY = 1e-3
"""Intensities up to this one outside of all labels are background."""

_STAYS = 0.75
"""How often background stays 0."""


def synthesised(image: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """An image (C, *S) in [0, 1] with a random contrast of the regions of ``labels`` (1, *S).

    Each label gets a new mean and keeps, strengthened, weakened or inverted, what the image shows
    within it; a smooth texture is added. Labels of similar mean share, as often as not, their new
    one, so that 40 parcels of a cortex look like a cortex. Voxels of label 0 that are not empty
    count as one label more; the background mostly stays 0. Nothing moves: a voxel's new value
    depends on its own old value, its label and its place. Source: SynthMorph (Hoffmann et al.,
    IEEE TMI 2022), which draws images from labels alone.
    """
    shape = image.shape[1:]
    label = labels[0].clamp(min=0).flatten()
    empty = (label == 0) & (image <= _EMPTY).all(0).flatten()
    index = torch.where(empty, 0, label + 1)
    count = torch.bincount(index)
    present = count > 0
    channels = []
    groups = 2 + int(uniform(generator, 1) * 14)
    places = symmetric(generator, 0.5, 1) + 0.5
    values = uniform(generator, groups + 2)
    jitter = symmetric(generator, 0.05, len(count))
    gain = symmetric(generator, 1.5, len(count))
    rough = 0.1 * uniform(generator, 1)
    texture = (rough * smooth_field(generator, shape, 16)).flatten().to(image)
    outside = _background(generator)
    for channel in image.flatten(1).unbind(0):
        mean = torch.bincount(index, channel.double(), len(count)) / count.clamp(min=1)
        mean = mean.cpu().float()
        group = (mean.clamp(0, 1) * groups + places).floor().long().clamp(0, groups + 1)
        level = values[group] + jitter
        if outside is not None:
            level[0] = outside
        new = (level - gain * mean).to(channel)[index] + gain.to(channel)[index] * channel
        new = new + texture
        low, high = _ends(new[~empty], level[present.cpu()])
        new = ((new - low) / (high - low)).clamp(0, 1)
        if outside is None:
            new = new.masked_fill(empty, 0.0)
        channels.append(new)
    return torch.stack(channels).reshape(image.shape)


def transferred(image: Tensor, generator: torch.Generator) -> Tensor:
    """An image (C, *S) in [0, 1] seen through a random curve from [0, 1] onto [0, 1].

    The curve is piecewise linear with 4 to 8 knots: rising, falling (the negative) or neither, each
    a third of the time. The background mostly stays 0, as if it had been masked.
    """
    knots = 4 + int(uniform(generator, 1) * 5)
    kind = int(uniform(generator, 1) * 3)
    heights = uniform(generator, knots)
    if kind < 2:
        heights = (heights + 0.1).cumsum(0)  # no flat piece: it would erase edges
    heights = (heights - heights.min()) / (heights.max() - heights.min())
    if kind == 1:
        heights = 1 - heights
    kept = _background(generator) is None
    curve = heights.to(image)
    at = image.clamp(0, 1) * (knots - 1)
    left = at.floor().clamp(max=knots - 2)
    i = left.long()
    new = torch.lerp(curve[i], curve[i + 1], at - left)
    return new.masked_fill((image <= _EMPTY).all(0, keepdim=True), 0.0) if kept else new


def biased(image: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    """An image (C, *S) times ``exp`` of a smooth field of at most ``bound``, as coils shade it."""
    field = bound * uniform(generator, 1) * smooth_field(generator, image.shape[1:], 3)
    return image * field.exp().to(image)


def _background(generator: torch.Generator) -> float | None:
    """The value that the background gets, None where it stays 0."""
    drawn, value = uniform(generator, 2).tolist()
    return None if drawn < _STAYS else value


def _ends(values: Tensor, levels: Tensor) -> tuple[float, float]:
    """What becomes 0 and 1: nearly all of the image's range, at least 0.1 wide."""
    few = values[:: max(1, len(values) // 20_000)].sort().values if len(values) else levels
    last = len(few) - 1
    low, high = float(few[round(0.005 * last)]), float(few[round(0.995 * last)])
    return low, max(high, low + 0.1)
