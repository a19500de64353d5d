"""Distances between the surfaces of two label maps: Hausdorff distance, surface Dice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regtool.metrics.indexing import enumerate_labels, label_pair

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance in mm from every surface voxel of one structure to the other's surface.

    Where a structure is empty in one of the maps, the distances of the other are infinite.
    """

    from_fixed: NDArray[np.float64]
    from_moving: NDArray[np.float64]

    def hausdorff(self, percentile: float = 95.0) -> float:
        """The larger of the two directed percentiles in mm; 100 is the Hausdorff distance.

        Percentiles are interpolated linearly between voxels, as MONAI and NumPy do. (Others pool
        both directions first.) Infinite when the structure is missing from one of the maps.
        """
        if self._missing():
            return float("inf")
        return float(max(np.percentile(d, percentile) for d in (self.from_fixed, self.from_moving)))

    def surface_dice(self, tolerance: float) -> float:
        """Share of all surface voxels that lie within ``tolerance`` mm of the other surface.

        Surface voxels are counted, as MONAI does without ``use_subvoxels``; surface areas, as
        DeepMind's code has them, would weigh them. Source: Nikolov 2018. 0 when the structure is
        missing from one of the maps.
        """
        both = np.concatenate([self.from_fixed, self.from_moving])
        return float(np.mean(both <= tolerance))

    def mean(self) -> float:
        """Average symmetric surface distance in mm: the mean over the voxels of both surfaces."""
        return float(np.concatenate([self.from_fixed, self.from_moving]).mean())

    def _missing(self) -> bool:
        return not (self.from_fixed.size and self.from_moving.size)


def group_surfaces(
    fixed: ArrayLike,
    moving: ArrayLike,
    spacing: Sequence[float],
    groups: Mapping[str, Iterable[int]] | Mapping[int, Iterable[int]],
) -> dict[Any, SurfaceDistances]:
    """Surface distances of unions of labels, by name. Groups empty in both maps are left out.

    ``spacing`` in mm, one value an array axis. A surface voxel is one inside with a face neighbour
    outside; what lies beyond the image is outside. Axes of one voxel do not count as neighbours,
    so that a single slice has an outline. Raises ValueError for different shapes or spacing.
    """
    a, b = label_pair(fixed, moving)
    mm = _checked(spacing, a.ndim)
    values, first, second = enumerate_labels(a, b)
    boxes = _boxes(first, second, len(values))
    rank = {v: i for i, v in enumerate(values)}
    found = {}
    for name, members in groups.items():
        ranks = [rank[m] for m in members if m in rank]
        if not ranks:
            continue
        box = tuple(
            slice(min(s.start for s in axis), max(s.stop for s in axis))
            for axis in zip(*(boxes[r] for r in ranks), strict=True)
        )
        one, other = (np.isin(x[box], ranks) for x in (first, second))
        distances = _distances(one, other, mm, _flat(a.shape))
        if distances is not None:
            found[name] = distances
    return found


def hd95(
    fixed: ArrayLike,
    moving: ArrayLike,
    spacing: Sequence[float],
    labels: Iterable[int] | None = None,
) -> dict[int, float]:
    """95th percentile Hausdorff distance in mm of every label, by label.

    Arguments and labels as ``dice``, ``spacing`` in mm, one value an array axis. The definition of
    ``monai.metrics.compute_hausdorff_distance(percentile=95)``.
    """
    found = group_surfaces(fixed, moving, spacing, _single(fixed, moving, labels))
    return {label: distances.hausdorff(95.0) for label, distances in found.items()}


def surface_dice(
    fixed: ArrayLike,
    moving: ArrayLike,
    spacing: Sequence[float],
    tolerance: float,
    labels: Iterable[int] | None = None,
) -> dict[int, float]:
    """Surface Dice of every label at a tolerance in mm, by label; otherwise as ``hd95``."""
    found = group_surfaces(fixed, moving, spacing, _single(fixed, moving, labels))
    return {label: distances.surface_dice(tolerance) for label, distances in found.items()}


def _single(
    fixed: ArrayLike, moving: ArrayLike, labels: Iterable[int] | None
) -> dict[int, tuple[int]]:
    if labels is None:
        labels = [v for v in enumerate_labels(*label_pair(fixed, moving))[0] if v != 0]
    return {int(v): (int(v),) for v in labels}


def _checked(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    mm = tuple(float(s) for s in spacing)
    if len(mm) != ndim or not all(s > 0 for s in mm):
        raise ValueError(f"spacing is one positive number of mm for each of {ndim} axes: {mm}")
    return mm


def _boxes(first: NDArray[Any], second: NDArray[Any], count: int) -> list[tuple[slice, ...]]:
    """The box around each rank in either map; every rank occurs in one of them."""
    from scipy.ndimage import find_objects

    boxes = []
    found = [find_objects(x.astype(np.int32) + 1, count) for x in (first, second)]
    for one, other in zip(*found, strict=True):
        if one is None or other is None:
            boxes.append(one or other)
            continue
        pairs = zip(one, other, strict=True)
        boxes.append(tuple(slice(min(s.start, t.start), max(s.stop, t.stop)) for s, t in pairs))
    return boxes


def _flat(shape: tuple[int, ...]) -> list[bool]:
    """Which axes of the image have one voxel only."""
    return [n == 1 for n in shape]


def _distances(
    a: Mask, b: Mask, spacing: tuple[float, ...], flat: Sequence[bool]
) -> SurfaceDistances | None:
    from scipy.spatial import KDTree

    points = [np.argwhere(_surface(mask, flat)) * np.asarray(spacing) for mask in (a, b)]
    sizes = [len(p) for p in points]
    if not any(sizes):
        return None
    if not all(sizes):
        return SurfaceDistances(*(np.full(n, np.inf) for n in sizes))
    # Surfaces are sparse: a tree of their voxels is faster than distances in the whole box.
    trees = [KDTree(p, leafsize=32, balanced_tree=False) for p in points]
    return SurfaceDistances(trees[1].query(points[0])[0], trees[0].query(points[1])[0])


def _surface(mask: Mask, flat: Sequence[bool]) -> Mask:
    """Voxels of a mask, cropped or not, with a face neighbour outside along an axis not flat."""
    inner = mask.copy()
    for axis, skip in enumerate(flat):
        if skip:
            continue
        here = np.moveaxis(inner, axis, 0)
        there = np.moveaxis(mask, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
        here[0] = here[-1] = False
    return mask & ~inner
