"""Landmarks where an expert would put them: at distinctive places, well apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.data.phantoms.pair import Floats

REACH_MM = 3.0  # scale of the gradient
WINDOW_MM = 5.0  # over which gradients are collected


def distinctiveness(image: NDArray[Any], spacing: tuple[float, ...]) -> Floats:
    """How well a place can be found again in all directions: ``1 / trace(inv(S))``, (*shape).

    ``S`` is the structure tensor of a 3-D image, ``spacing`` in mm, array order. Source: Förstner
    and Gülch 1987; used for lungs by Rühaak et al., IEEE TMI 36, 2017.
    """
    from scipy import ndimage

    def smooth(values: NDArray[Any], mm: float) -> Floats:
        return np.asarray(ndimage.gaussian_filter(values, [mm / s for s in spacing]), np.float32)

    calm = smooth(np.asarray(image, np.float32), REACH_MM / 2)
    g = [np.gradient(calm, s, axis=axis) for axis, s in enumerate(spacing)]
    a, b, c = (smooth(v * v, WINDOW_MM / 2) for v in g)
    ab, ac, bc = (smooth(g[i] * g[j], WINDOW_MM / 2) for i, j in ((0, 1), (0, 2), (1, 2)))
    minors = (b * c - bc * bc) + (a * c - ac * ac) + (a * b - ab * ab)
    whole = a * (b * c - bc * bc) - ab * (ab * c - bc * ac) + ac * (ab * bc - b * ac)
    return np.asarray(np.clip(whole, 0, None) / np.maximum(minors, 1e-12), np.float32)


def choose_landmarks(
    image: NDArray[Any], allowed: NDArray[np.bool_], spacing: tuple[float, ...], count: int
) -> NDArray[np.intp]:
    """Up to ``count`` voxels (N, 3) of ``allowed``: distinctive ones, the best first, well apart.

    The distance kept between them is the largest of a falling series at which there are enough.
    Fewer than ``count`` come back only where fewer voxels are allowed.
    """
    from scipy import ndimage

    worth = np.where(allowed, distinctiveness(image, spacing), -1)
    peaks = allowed & (worth >= ndimage.maximum_filter(worth, size=3))
    order = np.argsort(-worth[allowed], kind="stable")
    places = np.argwhere(allowed)[order]
    first = peaks[tuple(places.T)]
    places = np.concatenate([places[first], places[~first]])  # maxima before all others
    volume = len(places) * float(np.prod(spacing))
    apart = 0.9 * (volume / max(count, 1)) ** (1 / 3)
    while True:
        chosen = _apart(places, np.asarray(spacing), apart, count)
        if len(chosen) >= min(count, len(places)):
            return chosen
        apart = 0.85 * apart if apart > min(spacing) else 0.0


def _apart(
    places: NDArray[np.intp], spacing: NDArray[np.float64], apart: float, count: int
) -> NDArray[np.intp]:
    """The first ``count`` places, taken in order, that are ``apart`` mm or more from each other."""
    free = np.ones(len(places), bool)
    mm = places * spacing
    chosen: list[int] = []
    at = 0
    while len(chosen) < count and at < len(places):
        chosen.append(at)
        free &= ((mm - mm[at]) ** 2).sum(1) >= apart * apart
        free[at] = False
        ahead = np.flatnonzero(free[at + 1 :])
        if not len(ahead):
            break
        at += 1 + int(ahead[0])
    return places[chosen]
