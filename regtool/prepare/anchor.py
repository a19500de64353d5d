"""Where a box is placed in an image that is larger than it; labels never decide."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.prepare.gridding import thick_axis
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Matrix, centroid
from regtool.spatial.smooth import gaussian

_BACKGROUND = 80.0
"""Percentile of |fixed - moving| taken as noise and background."""
_ROUNDING = 1e-5
"""Where nothing differs by more, the images are the same."""


def find_anchor(
    fixed: Volume,
    moving: Volume,
    preparation: Preparation,
    initial: Matrix,
    mask: Volume | None,
    roi: Volume | None,
) -> NDArray[np.float64]:
    """World position (LPS mm) of the middle of the box.

    ``fixed`` and ``moving`` are normalised to [0, 1]. ``roi`` goes before the preparation's rule;
    an anchor without a mask, or without any motion, is the middle of the image.
    """
    if roi is not None:
        return _centroid(roi, (roi.array > 0).astype(np.float64), needed=True)
    if preparation.anchor == "mask" and mask is not None:
        return _centroid(mask, (mask.array > 0).astype(np.float64), needed=True)
    if preparation.anchor == "intensity":
        return _centroid(fixed, fixed.array.astype(np.float64))
    if preparation.anchor == "motion":
        return _centroid(fixed, _motion(fixed, moving, initial))
    return fixed.grid.centre


def _motion(fixed: Volume, moving: Volume, initial: Matrix) -> NDArray[np.float64]:
    """|fixed - moving|, smoothed over 3 voxels, with the background taken away.

    The thick slices of a stack are averaged, so that one bad slice does not pull the box.
    """
    there = resample(moving, fixed.grid, [initial])
    change = np.abs(fixed.array.astype(np.float64) - there)
    if change.max() <= _ROUNDING:
        return np.zeros_like(change)
    sigma = [3.0 if n > 8 else 0.0 for n in change.shape]
    thick = thick_axis(fixed.grid)
    if thick is not None:
        across = change.ndim - 1 - thick
        change = np.broadcast_to(change.mean(axis=across, keepdims=True), change.shape)
        sigma[across] = 0.0
    change = gaussian(torch.from_numpy(change.copy())[None, None], sigma)[0, 0].numpy()
    return np.clip(change - np.percentile(change, _BACKGROUND), 0, None)


def _centroid(
    volume: Volume, weight: NDArray[np.float64], needed: bool = False
) -> NDArray[np.float64]:
    place = centroid(weight, volume.grid)
    if place is None and needed:
        raise InputError(f"{volume.name}: the mask is empty, so no box can be placed on it")
    return volume.grid.centre if place is None else place
