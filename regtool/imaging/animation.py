"""Animations of image series as GIF files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SHORTEST = 256
"""Pixels along the shorter side; smaller pictures are enlarged by a whole factor."""

_FRAME_MS, _HOLD_MS = 120, 700


def write_animation(path: Path, series: NDArray[np.floating], spacing: tuple[float, ...]) -> None:
    """Write a series (T, *S), 2-D or 3-D, as a grey GIF that repeats and rests at both ends.

    Of volumes the slice that changes most is shown, across the axis of the widest ``spacing`` (mm,
    one value a tensor axis), or the only one there is. Pixels get the shape of ``spacing``; grey
    values run from the 0.5th to the 99.5th percentile of all frames. Raises OSError when writing
    fails.
    """
    from PIL import Image

    pictures, steps = _pictures(series, spacing)
    low, high = np.percentile(pictures, (0.5, 99.5))
    scaled = (pictures - low) / max(float(high - low), 1e-12)
    grey = (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
    size = _size(grey.shape[1:], steps)
    frames = [Image.fromarray(g).resize(size, Image.Resampling.BICUBIC) for g in grey]
    times = [_FRAME_MS] * len(frames)
    times[0] = times[-1] = _HOLD_MS
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0
    )


def _pictures(
    series: NDArray[np.floating], spacing: tuple[float, ...]
) -> tuple[NDArray[np.floating], tuple[float, float]]:
    """The frames (T, H, W) to show and the spacing of their axes."""
    if series.ndim == 3:
        return series, (spacing[0], spacing[1])
    flat = [number for number, n in enumerate(series.shape[1:]) if n == 1]
    axis = flat[0] if flat else int(np.argmax(spacing))
    slices = np.moveaxis(series, axis + 1, 1)
    change = np.abs(slices[-1] - slices[0]).sum(axis=(1, 2))
    left = [step for number, step in enumerate(spacing) if number != axis]
    return slices[:, int(np.argmax(change))], (left[0], left[1])


def _size(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[int, int]:
    """Width and height in pixels, square ones."""
    unit = min(spacing)
    height, width = (n * step / unit for n, step in zip(shape, spacing, strict=True))
    factor = max(1, round(_SHORTEST / min(height, width)))
    return max(1, round(width * factor)), max(1, round(height * factor))
