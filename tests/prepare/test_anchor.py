"""Where a box is placed: by mask, intensity or motion, on grids stored in any order."""

from __future__ import annotations

import numpy as np
import pytest

from regtool.errors import InputError
from regtool.imaging.volume import Volume
from regtool.prepare.anchor import find_anchor
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid

from .test_gridding import oblique, stored

GRID = Grid((40, 30, 5), (1.0, 1.2, 8.0), tuple(oblique(0.3).ravel()), (4.0, -3.0, 7.0))


def preparation(anchor: str) -> Preparation:
    return Preparation(spacing=(8.0, 1.0, 1.0), size=(5, 16, 16), anchor=anchor)


def block(value: float = 1.0, shift: int = 0) -> np.ndarray:
    """A block from voxel (24, 18, 2), in x, y, z, to (32, 23, 3), without the last."""
    array = np.zeros(GRID.shape, np.float32)
    array[2:4, 18:24, 24 + shift : 32 + shift] = value
    return array


def found(anchor: str, fixed: np.ndarray, moving: np.ndarray, **more) -> np.ndarray:
    """The anchor as an index (x, y, z) of the fixed image."""
    place = find_anchor(
        Volume(fixed, GRID), Volume(moving, GRID), preparation(anchor), np.eye(4),
        more.get("mask"), more.get("roi"),
    )  # fmt: skip
    return (GRID.world_to_index @ np.append(place, 1.0))[:3]


MIDDLE, CENTRE = (27.5, 20.5, 2.5), (19.5, 14.5, 2.0)


def test_each_rule_and_what_it_falls_back_on():
    empty = np.zeros(GRID.shape, np.float32)
    mask = Volume(block(3).astype(np.uint8), GRID)
    assert found("centre", block(), empty) == pytest.approx(CENTRE)
    assert found("intensity", block(0.5), empty) == pytest.approx(MIDDLE)
    assert found("intensity", empty, block()) == pytest.approx(CENTRE)
    assert found("mask", empty, empty, mask=mask) == pytest.approx(MIDDLE)
    assert found("mask", block(), empty) == pytest.approx(CENTRE)
    assert found("centre", empty, empty, mask=mask) == pytest.approx(CENTRE)
    assert found("motion", block(), block()) == pytest.approx(CENTRE)
    for anchor in ("centre", "mask", "intensity", "motion"):
        assert found(anchor, empty, empty, roi=mask) == pytest.approx(MIDDLE)
    nothing = Volume(np.zeros(GRID.shape, np.uint8), GRID)
    with pytest.raises(InputError, match="empty"):
        found("mask", empty, empty, mask=nothing)


def test_motion_is_where_the_two_differ_and_one_bad_slice_does_not_pull():
    still = np.zeros(GRID.shape, np.float32)
    moved = found("motion", still, block())
    assert moved[:2] == pytest.approx(MIDDLE[:2], abs=0.6)
    assert moved[2] == pytest.approx(2.0)  # averaged over the slices
    # The one initial transform that undoes a shift leaves nothing of it.
    shift = np.eye(4)
    shift[:3, 3] = GRID.direction_matrix[:, 0] * 4
    place = find_anchor(
        Volume(block(), GRID),
        Volume(block(shift=4), GRID),
        preparation("motion"),
        shift,
        None,
        None,
    )
    assert (GRID.world_to_index @ np.append(place, 1.0))[:3] == pytest.approx(CENTRE)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_motion_finds_the_thick_axis_wherever_it_is_stored(order):
    turned = stored(GRID, order, (1, 1, 1))
    axes = tuple(2 - order.index(2 - a) for a in range(3))
    arrays = [np.zeros(turned.shape, np.float32), np.transpose(block(), np.argsort(axes))]
    assert arrays[1].shape == turned.shape
    place = find_anchor(
        Volume(arrays[0], turned), Volume(np.ascontiguousarray(arrays[1]), turned),
        preparation("motion"), np.eye(4), None, None,
    )  # fmt: skip
    index = (GRID.world_to_index @ np.append(place, 1.0))[:3]
    assert index == pytest.approx(found("motion", np.zeros(GRID.shape, np.float32), block()))


def motion_in(grid: Grid, start: tuple[int, int, int], stop: tuple[int, int, int]) -> np.ndarray:
    """Where a change from ``start`` to before ``stop`` (x, y, z) puts the anchor, as an index."""
    changed = np.zeros(grid.shape, np.float32)
    changed[tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))] = 1
    still = Volume(np.zeros(grid.shape, np.float32), grid)
    settings = preparation("motion")
    place = find_anchor(still, Volume(changed, grid), settings, np.eye(4), None, None)
    return (grid.world_to_index @ np.append(place, 1.0))[:3]


@pytest.mark.parametrize("spacing", [(1.4, 1.4, 1.0), (1.4, 1.4, 8.0), (1.0, 1.4, 1.2)])
@pytest.mark.parametrize("flat", [0, 1, 2])
def test_motion_of_one_slice_is_not_averaged_within_it(spacing, flat):
    """The lone slice has no neighbours; a widest spacing that lies in it means nothing."""
    size, start, stop = [80, 96, 88], [20, 58, 10], [28, 66, 22]
    size[flat], start[flat], stop[flat] = 1, 0, 1
    grid = Grid(tuple(size), spacing, tuple(oblique(0.3).ravel()), (4.0, -3.0, 7.0))
    middle = (np.add(start, stop) - 1) / 2
    assert motion_in(grid, tuple(start), tuple(stop)) == pytest.approx(middle, abs=0.6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.2, 1.0, 1.0), (1.0, 1.0, 1.4)])
def test_motion_in_a_volume_without_thick_slices_is_found_along_every_axis(spacing):
    grid = Grid((40, 44, 48), spacing, tuple(oblique(0.3).ravel()), (4.0, -3.0, 7.0))
    found = motion_in(grid, (8, 24, 30), (18, 36, 40))
    assert found == pytest.approx((12.5, 29.5, 34.5), abs=1.0)
