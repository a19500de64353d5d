"""The network's grid: orientation, spacing, size, anchor."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from regtool.errors import GeometryError
from regtool.prepare.gridding import network_grid
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid


def stored(grid: Grid, order: tuple[int, ...], flips: tuple[int, ...]) -> Grid:
    """The same samples of space with permuted and flipped index axes."""
    direction = grid.direction_matrix
    columns, spacing, size = [], [], []
    origin = np.array(grid.origin)
    for axis, flip in zip(order, flips, strict=True):
        column = direction[:, axis]
        if flip < 0:
            origin = origin + column * grid.spacing[axis] * (grid.size[axis] - 1)
        columns.append(column * flip)
        spacing.append(grid.spacing[axis])
        size.append(grid.size[axis])
    matrix = np.stack(columns, 1)
    return Grid(tuple(size), tuple(spacing), tuple(matrix.ravel()), tuple(origin))


def oblique(angle: float = 0.3) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )


STACK = Grid((200, 180, 10), (1.4, 1.4, 8.0), tuple(oblique().ravel()), (-30.0, 12.0, 55.0))
PREPARATION = Preparation(
    orientation="stack", spacing=(6.0, 1.5, 1.5), size=(16, 128, 128), fit=(True, False, False)
)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("orientation", ["stack", "LPS", "RAS"])
def test_storage_order_does_not_change_the_grid(order, orientation):
    preparation = PREPARATION.model_copy(update={"orientation": orientation})
    anchor = STACK.centre + 3
    wanted = network_grid(STACK, preparation, anchor)
    for flips in itertools.product((1, -1), repeat=3):
        found = network_grid(stored(STACK, order, flips), preparation, anchor)
        assert found.same_as(wanted), (order, flips)


def test_stack_puts_the_wide_axis_last():
    grid = stored(STACK, (2, 0, 1), (1, 1, 1))
    found = network_grid(grid, PREPARATION, grid.centre)
    assert found.size == (128, 128, 16)
    assert found.spacing == (1.5, 1.5, 6.0)
    assert np.allclose(np.abs(found.direction_matrix[:, 2] @ STACK.direction_matrix[:, 2]), 1)


@pytest.mark.parametrize("letters", ["LPS", "RAS", "SAL", "PIR"])
def test_letters_say_where_the_axes_point(letters):
    world = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1),
             "I": (0, 0, -1)}  # fmt: skip
    preparation = Preparation(orientation=letters, spacing=(None,) * 3, size=(None,) * 3)
    found = network_grid(STACK, preparation, STACK.centre)
    for axis, letter in enumerate(letters):
        assert found.direction_matrix[:, axis] @ np.array(world[letter]) > 0.9


def test_kept_spacing_stays_on_the_samples():
    preparation = Preparation(spacing=(None,) * 3, size=(None,) * 3, multiple=16)
    found = network_grid(STACK, preparation, STACK.centre)
    assert found.size == (208, 192, 16)
    first = STACK.world_to_index @ np.append(found.origin, 1.0)
    assert np.allclose(first[:3], np.round(first[:3]), atol=1e-6)


def test_fit_widens_the_spacing_only_where_needed():
    long = Grid((64, 64, 20), (1.5, 1.5, 10.0), tuple(np.eye(3).ravel()), (0.0, 0.0, 0.0))
    found = network_grid(long, PREPARATION, long.centre)
    assert found.spacing[2] == pytest.approx(200 / 16)
    assert found.spacing[:2] == (1.5, 1.5)


def test_an_image_is_stretched_over_the_box_but_for_its_margin():
    scan = Grid((549, 778), (0.308, 0.154), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    preparation = Preparation(
        spacing=(None, None), size=(128, 128), fit=(True, True), margin=8, multiple=32
    )
    found = network_grid(scan, preparation, scan.centre)
    assert found.size == (128, 128)
    assert found.spacing == pytest.approx((549 * 0.308 / 112, 778 * 0.154 / 112))
    corner = (found.world_to_index @ scan.index_to_world @ np.array([-0.5, -0.5, 1.0]))[:2]
    assert corner == pytest.approx((7.5, 7.5))  # the image's outer edge: 8 voxels are left free


def test_a_box_stays_inside_a_larger_image_and_centres_a_smaller_one():
    grid = Grid((300, 60), (1.5, 1.5), (1.0, 0.0, 0.0, 1.0), (10.0, 20.0))
    preparation = Preparation(spacing=(1.5, 1.5), size=(128, 128))
    found = network_grid(grid, preparation, np.array([10.0, 20.0]))
    start = (grid.world_to_index @ np.append(found.origin, 1.0))[:2]
    assert start[0] == pytest.approx(0)
    assert start[1] == pytest.approx(-34, abs=0.51)


def test_slices_keep_their_places():
    preparation = Preparation(spacing=(1.5, 1.5), size=(128, 128))
    found = network_grid(STACK, preparation, STACK.centre, stack_axis=2)
    assert found.size == (128, 128, 10)
    assert found.spacing[2] == 8.0
    planes = (STACK.world_to_index @ np.append(found.origin, 1.0))[2]
    assert planes == pytest.approx(0, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(*[st.integers(1, 90)] * 3),
    st.tuples(*[st.floats(0.3, 12)] * 3),
    st.sampled_from([1, 8, 16]),
)
def test_covering_covers(size, spacing, multiple):
    grid = Grid(size, spacing, tuple(oblique(0.4).ravel()), (3.0, -7.0, 11.0))
    preparation = Preparation(spacing=(2.0,) * 3, size=(None,) * 3, multiple=multiple)
    found = network_grid(grid, preparation, grid.centre)
    inside = (grid.corners() - found.origin) @ found.direction_matrix / np.asarray(found.spacing)
    assert (inside >= -1.0).all()
    assert (inside <= np.asarray(found.size)).all()
    assert all(n % multiple == 0 for n in found.size)


@pytest.mark.parametrize(
    "change",
    [
        {"orientation": "LRS"},
        {"orientation": "LP"},
        {"spacing": (1.0, 1.0)},
        {"size": (0, 1, 1)},
        {"outside": "tiles", "size": (None, 64, 64)},
        {"fit": (True,)},
        {"margin": 8},
        {"fit": (True, True, True), "margin": 32},
        {"unknown": 1},
        {"intensity": [{"kind": "histogram"}]},
        {"intensity": [{"kind": "percentile", "low": 60, "high": 40}]},
    ],
)
def test_an_inconsistent_preparation_is_refused(change):
    values = {"spacing": (1.0, 1.0, 1.0), "size": (64, 64, 64), **change}
    with pytest.raises(ValidationError):
        Preparation(**values)


def test_letters_that_a_picture_does_not_have_choose_nothing() -> None:
    picture = Grid((9, 7), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    of_two = Preparation(spacing=(1.0, 1.0), size=(8, 8), orientation="SPL")
    assert network_grid(picture, of_two, np.zeros(2)).size == (8, 8)


def test_a_grid_beyond_the_memory_is_refused_before_it_is_made() -> None:
    fixed = Grid((200, 200, 200), (1.0, 1.0, 1.0), tuple(np.eye(3).ravel()), (0.0, 0.0, 0.0))
    fine = Preparation(spacing=(0.002,) * 3, size=(None,) * 3)
    with pytest.raises(GeometryError, match="too little memory"):
        network_grid(fixed, fine, np.zeros(3))
