"""Overlap of two label maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from regtool.metrics.indexing import enumerate_labels, label_pair

_TABLE = 1 << 24
"""Most pairs of labels that are counted in a table."""


def dice(
    fixed: ArrayLike, moving: ArrayLike, labels: Iterable[int] | None = None
) -> dict[int, float]:
    """``2 |A and B| / (|A| + |B|)`` of every label, by label.

    Label maps of one shape, NumPy arrays or CPU tensors. ``labels`` defaults to the non-zero ones
    of either map. A label that is empty in both is left out (not 1, not 0: METHODS 2.5); one that
    is empty in a single map scores 0. Raises ValueError when the shapes differ.
    """
    counts = _Counts(fixed, moving)
    wanted = [v for v in counts.rank if v != 0] if labels is None else [int(v) for v in labels]
    scores = ((v, counts.dice([v])) for v in wanted)
    return {v: score for v, score in scores if score is not None}


def dice_groups(
    fixed: ArrayLike, moving: ArrayLike, groups: Mapping[str, Iterable[int]]
) -> dict[str, float]:
    """Dice of unions of labels, by name: ``{"LV": (2, 3)}``. Groups empty in both are left out."""
    counts = _Counts(fixed, moving)
    scores = ((name, counts.dice(members)) for name, members in groups.items())
    return {name: score for name, score in scores if score is not None}


class _Counts:
    """How many voxels have one label in the first map and another in the second."""

    def __init__(self, fixed: ArrayLike, moving: ArrayLike) -> None:
        values, first, second = enumerate_labels(*label_pair(fixed, moving))
        self.rank = {v: i for i, v in enumerate(values)}
        n = len(values)
        both = (first * n + second).ravel()
        if n * n <= _TABLE:
            table = np.bincount(both, minlength=n * n)
            found = np.flatnonzero(table)
            self._count = table[found]
        else:
            found, self._count = np.unique(both, return_counts=True)
        self._first, self._second = np.divmod(found, max(n, 1))

    def dice(self, members: Iterable[int]) -> float | None:
        """Dice of a union of labels; None when it is empty in both maps."""
        inside = np.zeros(len(self.rank), dtype=bool)
        inside[[self.rank[int(m)] for m in members if int(m) in self.rank]] = True
        a, b = inside[self._first], inside[self._second]
        total = int(self._count[a].sum() + self._count[b].sum())
        return float(2 * self._count[a & b].sum() / total) if total else None
