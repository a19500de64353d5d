"""Structural similarity as a number to report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from regtool.spatial.smooth import gaussian_weights, separable_filter


def ssim(
    fixed: ArrayLike,
    moving: ArrayLike,
    mask: ArrayLike | None = None,
    data_range: float | None = None,
    window: int = 11,
    sigma: float = 1.5,
) -> float:
    """Mean structural similarity of two images (*S), at most 1. Source: Wang 2004, eq. 13.

    ``(2 mf mm + C1)(2 cov + C2) / ((mf^2 + mm^2 + C1)(vf + vm + C2))`` with C1 = (0.01 range)^2,
    C2 = (0.03 range)^2 and means over a Gaussian window of ``window`` voxels an axis, averaged over
    the voxels whose whole window lies in the image (and that lie in ``mask``), as in
    ``monai.metrics.SSIMMetric``. ``data_range`` is the fixed image's unless given. An axis shorter
    than the window has the longest odd window that fits, so that thin stacks can be measured.
    NaN for a constant fixed image without ``data_range``. Raises ValueError for different shapes,
    an even window, or a mask that leaves no voxel.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (fixed, moving))
    if a.shape != b.shape:
        raise ValueError(f"images of different shapes: {a.shape} and {b.shape}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window of SSIM is an odd number of voxels, not {window}")
    span = float(np.ptp(a)) if data_range is None else data_range
    if span <= 0:
        return float("nan")
    radii = [(min(window, n - 1 + n % 2)) // 2 for n in a.shape]
    values = _map(a, b, span, radii, sigma)
    if mask is None:
        return float(values.mean())
    inside = np.asarray(mask) != 0
    if inside.shape != a.shape:
        raise ValueError("the mask has another shape than the images")
    inside = inside[_inner(radii, a.shape)]
    if not inside.any():
        raise ValueError("the mask is empty where whole windows of SSIM lie in the image")
    return float(values[inside].mean())


def _inner(radii: list[int], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(r, n - r) for r, n in zip(radii, shape, strict=True))


def _map(
    a: NDArray[Any], b: NDArray[Any], span: float, radii: list[int], sigma: float
) -> NDArray[np.float64]:
    """SSIM where whole windows lie in the image."""
    taps = [gaussian_weights(sigma, radius) for radius in radii]
    inner = _inner(radii, a.shape)

    def smooth(x: NDArray[Any]) -> NDArray[np.float64]:
        tensor = torch.from_numpy(np.ascontiguousarray(x))[None, None]
        return separable_filter(tensor, taps, "nearest")[0, 0].numpy()[inner]

    # Variances are differences of means of squares: centred images keep their digits.
    shift = float(a.mean())
    a, b = a - shift, b - shift
    mean_a, mean_b = smooth(a), smooth(b)
    var_a = (smooth(a * a) - mean_a**2).clip(min=0)
    var_b = (smooth(b * b) - mean_b**2).clip(min=0)
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_a, mean_b = mean_a + shift, mean_b + shift
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return np.asarray(luminance * (2 * covariance + c2) / (var_a + var_b + c2), dtype=np.float64)
