"""Similarity of two images as numbers to report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from regtool.losses.ncc import local_ncc

NOISE = 3e-3
"""A change of local NCC up to this is interpolation, not registration."""


def ncc(fixed: ArrayLike, moving: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Pearson's correlation over all voxels (of the mask), in [-1, 1]; 0 when one is constant."""
    a, b = _values(fixed, moving, mask)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else 0.0


def mse(fixed: ArrayLike, moving: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean squared difference over all voxels (of the mask), in squared intensities."""
    a, b = _values(fixed, moving, mask)
    return float(np.mean((a - b) ** 2))


def nmse(fixed: ArrayLike, moving: ArrayLike, mask: ArrayLike | None = None) -> float:
    """``sum (fixed - moving)^2 / sum fixed^2`` over all voxels (of the mask); 0 is perfect.

    DiffuseMorph's definition (METHODS 3.6), which depends on where zero lies: shifting both images
    changes it. Infinite when the fixed image is zero and the other is not.
    """
    a, b = _values(fixed, moving, mask)
    error, power = float((a - b) @ (a - b)), float(a @ a)
    if power == 0:
        return 0.0 if error == 0 else math.inf
    return error / power


def psnr(
    fixed: ArrayLike,
    moving: ArrayLike,
    mask: ArrayLike | None = None,
    data_range: float | None = None,
) -> float:
    """``10 log10(range**2 / mse)`` in dB; the range is the fixed image's unless given.

    Infinite for equal images.
    """
    error = mse(fixed, moving, mask)
    span = float(np.ptp(np.asarray(fixed, dtype=np.float64))) if data_range is None else data_range
    if error == 0:
        return math.inf
    return 10 * math.log10(span**2 / error) if span > 0 else -math.inf


def mean_local_ncc(
    fixed: ArrayLike, moving: ArrayLike, mask: ArrayLike | None = None, window: int = 9
) -> float:
    """Mean squared local correlation in [0, 1] of two images (*S), each scaled to [0, 1] first.

    Higher is better: the negative of ``regtool.losses.ncc.local_ncc``, VoxelMorph's similarity
    (Balakrishnan et al. 2019, doi:10.1109/TMI.2019.2897538): ``cross**2 / (vf vm +
    1e-5)`` over the window around every voxel, outside of the image zeros, then the mean. A window
    without contrast (sum of squared deviations far below sqrt(1e-5)) counts 0, so images with
    themselves have 1 less about the share of such windows.
    """
    a, b = (_unit(np.asarray(x, dtype=np.float32)) for x in (fixed, moving))
    inside = None if mask is None else torch.as_tensor(np.asarray(mask) != 0)[None, None]
    with torch.no_grad():
        return -float(local_ncc(a, b, window, inside))


def _unit(x: NDArray[Any]) -> torch.Tensor:
    low, high = float(x.min()), float(x.max())
    return torch.from_numpy((x - low) / ((high - low) or 1.0))[None, None]


def _values(
    fixed: ArrayLike, moving: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(fixed, dtype=np.float64), np.asarray(moving, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"images of different shapes: {a.shape} and {b.shape}")
    if mask is None:
        return a.ravel(), b.ravel()
    inside = np.asarray(mask) != 0
    if inside.shape != a.shape or not inside.any():
        raise ValueError("the mask is empty or has another shape than the images")
    return a[inside], b[inside]
