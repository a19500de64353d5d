"""Which slices of a volume a report shows, and how many fit into its weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from regtool.report import colour
from regtool.report.panels import panels
from regtool.report.pictures import Picture, picture
from regtool.report.planes import Plane
from regtool.report.scene import Scene

BUDGET = 2_300_000
"""Bytes of pictures in the page of one pair."""
_MOST_FIRST, _MOST_OTHERS = 15, 7


@dataclass(frozen=True)
class Slice:
    """The pictures of one slice."""

    index: int
    pictures: tuple[Picture, ...]

    @property
    def weight(self) -> int:
        """Bytes in the page, nearly."""
        return sum(p.weight for p in self.pictures)


@dataclass(frozen=True)
class Stack:
    """A plane with the slices that are shown; ``key`` is the position of the first one shown."""

    plane: Plane
    slices: tuple[Slice, ...]
    key: int


def stacks(scene: Scene, budget: int = BUDGET) -> list[Stack]:
    """The slices of every plane: the telling one of each first, others while they fit."""
    keys = [key_slice(scene, plane) for plane in scene.planes]
    made = {
        (n, key): draw(scene, plane, key)
        for n, (plane, key) in enumerate(zip(scene.planes, keys, strict=True))
    }
    left = budget - sum(s.weight for s in made.values())
    wishes = [
        wanted(scene, plane, keys[n], _MOST_OTHERS if n else _MOST_FIRST)
        for n, plane in enumerate(scene.planes)
    ]
    for n, index in _in_turn(wishes):
        cost = made[n, keys[n]].weight
        if cost <= left:
            made[n, index] = draw(scene, scene.planes[n], index)
            left -= made[n, index].weight
    result = []
    for n, plane in enumerate(scene.planes):
        own = sorted((s for (m, _), s in made.items() if m == n), key=lambda s: s.index)
        result.append(Stack(plane, tuple(own), [s.index for s in own].index(keys[n])))
    return result


def draw(scene: Scene, plane: Plane, index: int) -> Slice:
    """All pictures of a slice, encoded."""
    return Slice(index, tuple(picture(panel) for panel in panels(scene, plane, index)))


def key_slice(scene: Scene, plane: Plane) -> int:
    """The slice through the middle of the labels or, without labels, of the region's tissue."""
    if plane.axis is None or plane.count == 1:
        return 0
    if scene.labels and scene.view.fixed_labels is not None:
        mass = scene.view.fixed_labels != 0
    else:
        inside = tuple(slice(a, b) for a, b in scene.box)
        mass = np.zeros(scene.grid.shape, dtype=np.float32)
        mass[inside] = colour.unit(scene.view.fixed[inside], scene.windows["fixed"])
    others = tuple(a for a in range(mass.ndim) if a != plane.axis)
    profile = mass.sum(axis=others, dtype=np.float64)
    if not profile.any():
        return plane.count // 2
    middle = float(profile @ np.arange(plane.count) / profile.sum())
    occupied = np.flatnonzero(profile)
    return int(occupied[np.argmin(np.abs(occupied - middle))])


def wanted(scene: Scene, plane: Plane, key: int, most: int) -> list[int]:
    """Further slices: the one with most folds, then evenly over the region of interest."""
    if plane.axis is None or plane.count == 1:
        return []
    first, stop = scene.box[plane.axis]
    if plane.count <= most:
        first, stop = 0, plane.count
    even = np.unique(np.linspace(first, stop - 1, most).round().astype(int)).tolist()
    others = tuple(a for a in range(scene.folded.ndim) if a != plane.axis)
    folds = scene.folded.sum(axis=others)
    worst = [int(np.argmax(folds))] if folds.any() else []
    middle_out = sorted(even, key=lambda i: (abs(i - key), i))
    if len(even) > 2:  # every second one first, so that a full budget still spans the region
        middle_out = middle_out[1::2] + middle_out[::2]
    chosen = [i for i in dict.fromkeys([*worst, *middle_out]) if i != key]
    near = plane.count > most  # a slice just beside the telling one adds little
    return [i for i in chosen if not near or abs(i - key) > 1 or i in worst][: most - 1]


def _in_turn(wishes: list[list[int]]) -> Iterator[tuple[int, int]]:
    """Two of the first plane for one of each other, until all are named."""
    left = [list(w) for w in wishes]
    while any(left):
        for n, queue in enumerate(left):
            for _ in range(2 if n == 0 else 1):
                if queue:
                    yield n, queue.pop(0)
