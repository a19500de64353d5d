"""Overlap of two label maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from regtool.metrics.indexing import enumerate_labels, label_pair


def dice(
    fixed: ArrayLike, moving: ArrayLike, labels: Iterable[int] | None = None
) -> dict[int, float]:
    """``2 |A and B| / (|A| + |B|)`` of every label, by label.

    Label maps of one shape, NumPy arrays or CPU tensors. ``labels`` defaults to the non-zero ones
    of either map. A label that is empty in both is left out (not 1, not 0: METHODS 2.5); one that
    is empty in a single map scores 0. Raises ValueError when the shapes differ.
    """
    a, b = label_pair(fixed, moving)
    values, first, second = enumerate_labels(a, b)
    first, second = first.ravel(), second.ravel()
    in_a = np.bincount(first, minlength=len(values))
    in_b = np.bincount(second, minlength=len(values))
    both = np.bincount(first[first == second], minlength=len(values))
    rank = {v: i for i, v in enumerate(values)}
    wanted = [v for v in rank if v != 0] if labels is None else [int(v) for v in labels]
    return {
        v: float(2 * both[rank[v]] / (in_a[rank[v]] + in_b[rank[v]])) for v in wanted if v in rank
    }


def dice_groups(
    fixed: ArrayLike, moving: ArrayLike, groups: Mapping[str, Iterable[int]]
) -> dict[str, float]:
    """Dice of unions of labels, by name: ``{"LV": (2, 3)}``. Groups empty in both are left out."""
    a, b = label_pair(fixed, moving)
    scores: dict[str, float] = {}
    for name, members in groups.items():
        wanted = list(members)
        score = dice(np.isin(a, wanted), np.isin(b, wanted))
        if 1 in score:
            scores[name] = score[1]
    return scores
