"""Statistics over cases: summaries, and the paired test between two methods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Summary:
    """``n`` finite values: mean, unbiased SD (None for one), median, quartiles and extremes.

    ``undefined`` counts the values left out: NaN, and infinite ones such as the Hausdorff distance
    to a structure that is not there.
    """

    n: int
    undefined: int
    mean: float
    sd: float | None
    median: float
    q1: float
    q3: float
    min: float
    max: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the numbers as a plain mapping, ready for JSON."""
        return asdict(self)


def unbiased_sd(values: NDArray[np.float64]) -> float | None:
    """SD of values (N,) with N - 1 below; None for a single one, which says nothing of a spread."""
    return float(values.std(ddof=1)) if values.size > 1 else None


def summarise(values: Iterable[float]) -> Summary | None:
    """Summary of the finite values; None when there are none."""
    given = np.asarray(list(values), dtype=np.float64)
    x = given[np.isfinite(given)]
    if not x.size:
        return None
    q1, median, q3 = (float(q) for q in np.percentile(x, (25, 50, 75)))
    return Summary(
        x.size, given.size - x.size, float(x.mean()), unbiased_sd(x), median, q1, q3,
        float(x.min()), float(x.max()),
    )  # fmt: skip


@dataclass(frozen=True)
class PairedTest:
    """Differences (second minus first) of ``n`` pairs, and Wilcoxon's two-sided p.

    ``p`` is None when no pair differs, so that there is nothing to rank, and for a single pair, as
    is its SD.
    """

    n: int
    mean_difference: float
    sd_difference: float | None
    median_difference: float
    p: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Return the numbers as a plain mapping, ready for JSON."""
        return asdict(self)


def paired_test(first: ArrayLike, second: ArrayLike) -> PairedTest | None:
    """Wilcoxon's signed-rank test of paired values (N,), by ``scipy.stats.wilcoxon``.

    Pairs in which one value is not finite do not count, equal ones are dropped before ranking
    (Wilcoxon's own treatment); p is exact for small samples without ties, as SciPy decides. Six
    pairs are the least that can reach p < 0.05. None without pairs. Source: Wilcoxon 1945.
    Raises ValueError for different lengths.
    """
    from scipy.stats import wilcoxon

    a, b = (np.asarray(x, dtype=np.float64) for x in (first, second))
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired values of different lengths: {a.shape} and {b.shape}")
    both = np.isfinite(a) & np.isfinite(b)
    d = b[both] - a[both]
    if not d.size:
        return None
    p = float(wilcoxon(d).pvalue) if d.size > 1 and d.any() else None
    return PairedTest(d.size, float(d.mean()), unbiased_sd(d), float(np.median(d)), p)
