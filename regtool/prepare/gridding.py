"""The grid on which a network works, from the fixed image's grid and a Preparation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import prod

import numpy as np

from regtool.errors import GeometryError
from regtool.memory import machine_memory
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid, Matrix

_STACK_RATIO = 1.5
_LPS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Layout:
    """Which index axis of the fixed image (x, y, z) each network axis follows, and its sign."""

    axes: tuple[int, ...]
    signs: tuple[int, ...]


def thick_axis(grid: Grid) -> int | None:
    """The index axis (x, y, z) along which a volume is a stack of thick slices, if there is one.

    A single slice is no stack, nor is a volume whose spacings differ by less than half.
    """
    if grid.ndim < 3 or min(grid.size) < 2:
        return None
    widest = int(np.argmax(grid.spacing))
    others = [step for axis, step in enumerate(grid.spacing) if axis != widest]
    return widest if grid.spacing[widest] > _STACK_RATIO * max(others) else None


def layout(fixed: Grid, orientation: str, stack_axis: int | None = None) -> Layout:
    """Choose permutation and flips of the fixed image's axes, in ITK order (x, y, z).

    ``stack_axis``: this index axis becomes z, as for volumes registered slice by slice. The choice
    depends on the world directions alone, so storing an image in another order changes nothing.
    """
    n = fixed.ndim
    keep = list(range(n))
    if orientation == "stack" and stack_axis is None:
        stack_axis = thick_axis(fixed)
    if orientation == "file":
        if stack_axis is not None:
            keep = [a for a in keep if a != stack_axis] + [stack_axis]
        return Layout(tuple(keep), (1,) * n)
    letters = "LPS" if orientation == "stack" else orientation
    return _nearest(fixed, letters[:n], stack_axis)


def _nearest(fixed: Grid, letters: str, stack_axis: int | None) -> Layout:
    """The permutation whose axes agree best with the letters; the stack axis is last if given."""
    direction, n = fixed.direction_matrix, fixed.ndim
    targets = np.zeros((n, n))
    for position, letter in enumerate(letters):
        world, towards = _LPS[letter]
        if world < n:
            targets[world, position] = towards
    cosines = targets.T @ direction  # [network axis, index axis]

    def quality(order: tuple[int, ...]) -> float:
        rows = range(n if stack_axis is None else n - 1)
        # Sum of a convex function, so that one good match beats two middling ones.
        return sum(round(float(cosines[row, order[row]]) ** 2, 6) for row in rows)

    orders = [o for o in permutations(range(n)) if stack_axis is None or o[-1] == stack_axis]
    best = max(orders, key=quality)
    signs = []
    for row, axis in enumerate(best):
        column = direction[:, axis]
        along = cosines[row, axis]
        if abs(along) < 1e-6:  # a stack axis may lie across its letter: its main component decides
            along = column[np.argmax(np.abs(column).round(6))]
        signs.append(1 if along > 0 else -1)
    return Layout(best, tuple(signs))


def network_grid(
    fixed: Grid, preparation: Preparation, anchor: Matrix, stack_axis: int | None = None
) -> Grid:
    """The network's grid around ``anchor`` (LPS mm).

    With ``stack_axis`` (ITK axis of the fixed image) the preparation has two dimensions and the
    grid three: z runs over the fixed image's own slices.
    """
    chosen = layout(fixed, preparation.orientation, stack_axis)
    n = fixed.ndim
    spacing, size = [0.0] * n, [0] * n
    origin_index = np.zeros(n)  # in the fixed image's index, per fixed axis
    anchor_index = (fixed.world_to_index @ np.append(anchor, 1.0))[:-1]
    for net_axis, (axis, sign) in enumerate(zip(chosen.axes, chosen.signs, strict=True)):
        if stack_axis is not None and net_axis == n - 1:
            step, count = fixed.spacing[axis], fixed.size[axis]
        else:
            step, count = _step_and_count(fixed, axis, preparation, net_axis)
        ratio = step / fixed.spacing[axis]
        middle = _middle(anchor_index[axis], count * ratio, fixed.size[axis])
        start = middle - sign * (count - 1) / 2 * ratio
        if abs(ratio - 1) < 1e-6:
            start = np.round(start)  # stay on the samples: no interpolation where none is needed
        spacing[net_axis], size[net_axis], origin_index[axis] = step, count, start
    _check_size(size)
    columns = fixed.direction_matrix[:, chosen.axes] * np.asarray(chosen.signs)
    origin = (fixed.index_to_world @ np.append(origin_index, 1.0))[:-1]
    return Grid(
        tuple(size), tuple(spacing), tuple(columns.ravel().tolist()), tuple(origin.tolist())
    )


def _check_size(size: list[int]) -> None:
    """Refuse a grid of which not even one image fits into the memory."""
    memory = machine_memory()
    if 4 * prod(size) > memory:
        raise GeometryError(
            f"the network's grid would have {'×'.join(map(str, size))} voxels, for which this "
            "machine has too little memory; the weights' spacing does not suit this image"
        )


def _step_and_count(
    fixed: Grid, axis: int, preparation: Preparation, net_axis: int
) -> tuple[float, int]:
    """Spacing in mm and number of voxels along one network axis (x, y, z)."""
    entry = preparation.ndim - 1 - net_axis
    step = preparation.spacing[entry] or fixed.spacing[axis]
    count = preparation.size[entry]
    extent = fixed.extent[axis]
    if count is None or preparation.outside == "tiles":
        least = count if count is not None else 1
        count = max(int(np.ceil(extent / step - 1e-3)), least)
        return step, -(-count // preparation.multiple) * preparation.multiple
    if preparation.fit and preparation.fit[entry]:
        fitting = extent / (count - 2 * preparation.margin)
        step = fitting if preparation.spacing[entry] is None else max(step, fitting)
    return step, count


def _middle(anchor: float, width: float, size: int) -> float:
    """Middle of a box of ``width`` on an axis of ``size`` voxels, all in voxels of the image.

    A box larger than the image is centred on it, a smaller one stays inside.
    """
    centre = (size - 1) / 2
    room = max(size - width, 0.0) / 2
    return float(np.clip(anchor, centre - room, centre + room))
