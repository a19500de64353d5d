"""Label maps as numbers from 0 on, found without sorting millions of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_TABLE = 1 << 20
"""Widest range of whole numbers that is looked up in a table instead of sorted."""

Index = NDArray[np.intp]


def label_pair(fixed: ArrayLike, moving: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two label maps as arrays; raises ValueError when their shapes differ."""
    a, b = np.asarray(fixed), np.asarray(moving)
    if a.shape != b.shape:
        raise ValueError(f"label maps of different shapes: {a.shape} and {b.shape}")
    return a, b


def label_values(labels: NDArray[Any]) -> list[int]:
    """The sorted values of a label map."""
    if labels.size and labels.dtype.kind in "biu":
        low = int(labels.min())
        span = int(labels.max()) - low + 1
        if span <= _TABLE:
            present = np.zeros(span, dtype=bool)
            present[labels.astype(np.int64) - low] = True
            return [int(v) + low for v in np.flatnonzero(present)]
    return [int(v) for v in np.unique(labels)]


def enumerate_labels(a: NDArray[Any], b: NDArray[Any]) -> tuple[list[int], Index, Index]:
    """The sorted values of both maps, and the maps with values replaced by their ranks."""
    if a.size and a.dtype.kind in "biu" and b.dtype.kind in "biu":
        low = min(int(a.min()), int(b.min()))
        span = max(int(a.max()), int(b.max())) - low + 1
        if span <= _TABLE:
            first, second = (x.astype(np.int64) - low for x in (a, b))
            present = np.zeros(span, dtype=bool)
            present[first], present[second] = True, True
            rank = np.cumsum(present) - 1
            values = [int(v) + low for v in np.flatnonzero(present)]
            return values, rank[first], rank[second]
    found, index = np.unique(np.concatenate([a.ravel(), b.ravel()]), return_inverse=True)
    index = index.reshape(2, *a.shape)
    return [int(v) for v in found], index[0], index[1]
