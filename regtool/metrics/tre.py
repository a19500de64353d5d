"""Target registration error of landmarks."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regtool.metrics.statistics import unbiased_sd


@dataclass(frozen=True)
class TreSummary:
    """In mm: mean, unbiased SD (None for one), median, 95th percentile, largest; and how many."""

    mean: float
    sd: float | None
    median: float
    p95: float
    max: float
    count: int

    def as_dict(self) -> dict[str, float | None]:
        """Return the numbers as a plain mapping, ready for JSON."""
        return asdict(self)


def distances(mapped: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Euclidean distance of every pair of points (N, ndim) in mm, (N,)."""
    a, b = np.asarray(mapped, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"points must be two (N, ndim) tables of one shape: {a.shape}, {b.shape}")
    return np.asarray(np.linalg.norm(a - b, axis=1), dtype=np.float64)


def tre(mapped: ArrayLike, target: ArrayLike) -> TreSummary:
    """Summarise ``|T(p_fixed) - p_moving|``.

    ``mapped`` are the fixed landmarks after the transform (fixed to moving), ``target`` the moving
    landmarks, both (N, ndim) in LPS mm. Unmapped fixed landmarks give the initial error.
    Source: Fitzpatrick 1998. Raises ValueError for different shapes or no points.
    """
    d = distances(mapped, target)
    if not d.size:
        raise ValueError("no landmarks")
    return TreSummary(
        mean=float(d.mean()),
        sd=unbiased_sd(d),
        median=float(np.median(d)),
        p95=float(np.percentile(d, 95)),
        max=float(d.max()),
        count=int(d.size),
    )
