"""Random smooth deformations for training: the fixed image gets another shape than it has."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from regtool.data.draws import smooth_field, uniform
from regtool.plugins.exchange import Pair, Sample
from regtool.spatial.compose import compose
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import sample, warp

HILLS = (1.5, 5.0)
"""Fewest and most hills of a deformation along the longest axis."""

STEPS = 12
"""Of the search for where a point has gone; each shortens the error by the field's slope."""


def stretched(pair: Pair, largest: float, chance: float, generator: torch.Generator) -> Pair:
    """``pair`` with the fixed image read at ``x + w(x)``, its field ``w(x) + u(x + w(x))``.

    ``w`` is smooth, of at most ``largest`` mm along each axis, drawn for each element of the batch,
    with probability ``chance``. Labels and mask of the fixed image go along (nearest), points to
    the ``y`` with ``y + w(y) = p``. The moving image stays, so the deformation between them is one
    that no pair has shown.
    """
    fixed = pair.fixed
    shape = tuple(fixed.image.shape[2:])
    drawn = [_drawn(shape, fixed.spacing, largest, chance, generator) for _ in fixed.image]
    w = torch.stack(drawn).to(fixed.image.device)
    field = None if pair.field is None else compose(pair.field.float(), w).to(pair.field.dtype)
    return Pair(_read(fixed, w), pair.moving, field)


def _drawn(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    largest: float,
    chance: float,
    generator: torch.Generator,
) -> Tensor:
    """One deformation (ndim, *S) in voxels."""
    skipped, many, *sizes = uniform(generator, 2 + len(shape)).tolist()
    hills = HILLS[0] + many * (HILLS[1] - HILLS[0])
    axes = [smooth_field(generator, shape, hills) for _ in shape]
    if skipped >= chance:
        return torch.zeros(len(shape), *shape)
    # The interpolation is linear; a blur takes its edges away.
    w = gaussian(torch.stack(axes)[None], max(shape) / hills / 4)[0]
    for axis, (n, size, width) in enumerate(zip(shape, sizes, spacing, strict=True)):
        w[axis] *= 0.0 if n == 1 else largest * size / width
    return w


def _read(given: Sample, w: Tensor) -> Sample:
    result = replace(given, image=warp(given.image, w.to(given.image)))
    for name in ("mask", "labels"):
        value: Tensor | None = getattr(given, name)
        if value is not None:
            read = warp(value.float(), w, mode="nearest", padding="zeros")
            setattr(result, name, read.to(value.dtype))
    if given.points is not None:
        result.points = _moved(given.points, w.to(given.points))
    return result


def _moved(points: Tensor, w: Tensor) -> Tensor:
    """``y`` with ``y + w(y) = points``; (B, N, ndim) in voxels, tensor axis order."""
    wanted = points.transpose(1, 2)
    y = wanted
    for _ in range(STEPS):
        y = wanted - sample(w, y)
    return y.transpose(1, 2)
