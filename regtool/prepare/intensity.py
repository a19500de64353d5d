"""Intensity steps of a Preparation: from scanner values to [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regtool.imaging.volume import Volume
from regtool.prepare.preparation import (
    BiasField,
    Intensity,
    MinMax,
    Percentile,
    Window,
    ZScore,
)
from regtool.spatial.grid import Grid

Array = NDArray[np.float32]
_SAMPLE = 2_000_000
"""Percentiles of larger images are taken from a regular sub-sample of about this many voxels."""


def normalise(
    images: Sequence[Volume],
    steps: Sequence[Intensity],
    masks: Sequence[NDArray[np.bool_] | None],
) -> list[Volume]:
    """Apply the steps to the images of a pair and return them as float32 in [0, 1].

    A constant image becomes 0 everywhere. ``masks`` (same shapes, or None) restrict the statistics
    of steps that say so.
    """
    arrays = [np.asarray(image.array, dtype=np.float32) for image in images]
    for step in steps:
        if isinstance(step, BiasField):
            arrays = [_bias_corrected(a, v, step) for a, v in zip(arrays, images, strict=True)]
            continue
        limits = _limits(step, arrays, masks)
        arrays = [_rescale(a, low, high) for a, (low, high) in zip(arrays, limits, strict=True)]
    return [v.with_array(np.clip(a, 0, 1)) for v, a in zip(images, arrays, strict=True)]


def _limits(
    step: Intensity, arrays: Sequence[Array], masks: Sequence[NDArray[np.bool_] | None]
) -> list[tuple[float, float]]:
    """The values that become 0 and 1, for each image."""
    if isinstance(step, Window):
        return [(step.low, step.high)] * len(arrays)
    if isinstance(step, MinMax):
        return [(float(a.min()), float(a.max())) for a in arrays]
    if not isinstance(step, Percentile | ZScore):
        raise TypeError(f"unknown intensity step {step!r}")
    values = [
        _subsample(a[m] if step.of == "mask" and m is not None and m.any() else a)
        for a, m in zip(arrays, masks, strict=True)
    ]
    if step.of == "pair":
        values = [np.concatenate(values)] * len(arrays)
    if isinstance(step, Percentile):
        return [tuple(map(float, np.percentile(v, (step.low, step.high)))) for v in values]  # type: ignore[misc]
    spreads = [(float(v.mean(dtype=np.float64)), float(v.std(dtype=np.float64))) for v in values]
    return [(mean - step.limit * sd, mean + step.limit * sd) for mean, sd in spreads]


def _subsample(values: Array) -> Array:
    flat = values.ravel()
    return flat[:: max(1, flat.size // _SAMPLE)]


def _rescale(array: Array, low: float, high: float) -> Array:
    if not high > low:
        return np.zeros_like(array)
    return np.clip((array - np.float32(low)) / np.float32(high - low), 0, 1)


def _bias_corrected(array: Array, volume: Volume, step: BiasField) -> Array:
    """N4 (Tustison et al., IEEE TMI 2010) estimated on a coarser image, applied to the full one.

    Its splines have no place along an axis of one voxel, which is left out.
    """
    import SimpleITK as sitk

    from regtool.imaging.itk import sitk_image

    grid = _without_flat_axes(volume.grid)
    image = sitk_image(np.maximum(array, 0).reshape(grid.shape), grid)
    factors = [min(step.shrink, max(1, n // 8)) for n in grid.size]
    small = sitk.Shrink(image, factors)
    mask = sitk.OtsuThreshold(small, 0, 1, 200)
    if sitk.GetArrayViewFromImage(mask).sum() == 0:
        return array
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.Execute(small, mask)
    field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
    return array / np.exp(field).astype(np.float32).reshape(array.shape)


def _without_flat_axes(grid: Grid) -> Grid:
    """The plane of a single slice as a 2-D grid, wherever it lies; any other grid as it is."""
    axes = [axis for axis, n in enumerate(grid.size) if n > 1]
    if grid.ndim == 2 or len(axes) != 2:
        return grid
    size, spacing = tuple(grid.size[a] for a in axes), tuple(grid.spacing[a] for a in axes)
    return Grid(size, spacing, (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
