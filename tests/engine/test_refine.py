"""Refinement of a method's field: nearer to the truth, on any grids, in 2-D, 3-D and slices."""

from __future__ import annotations

import numpy as np
import pytest
from registration_cases import bend, body, make_grid, moved, points_of, transform

import regtool
from regtool.imaging.volume import Volume

DIRECTIONS = ["identity", "oblique", "permuted"]


pytestmark = pytest.mark.usefixtures("one_thread")


def bent_pair(ndim: int, direction: str) -> tuple[Volume, Volume, np.ndarray]:
    """A pair on grids of different spacing, and where the fixed voxels lie in the moving image."""
    size = (48, 44, 40)[:ndim]
    fixed = make_grid(direction, size, (1.0, 1.1, 1.2)[:ndim])
    moving = make_grid("identity", size, (1.1, 1.0, 1.15)[:ndim])
    matrix = transform(ndim, (2.0, -1.5, 1.0)[:ndim])
    there = moved(matrix, bend(points_of(fixed), 3.0))
    return (
        Volume(body(there).astype(np.float32), fixed),
        Volume(body(points_of(moving)).astype(np.float32), moving),
        there,
    )


def distances(result: regtool.Registration, fixed: Volume, there: np.ndarray) -> np.ndarray:
    """How far from the truth the points of the body's inside come to lie, mm."""
    points = points_of(fixed.grid)
    found = moved(result.affine, points + result.field)
    inside = ((points - fixed.grid.centre) ** 2).sum(-1) < 15.0**2
    return np.linalg.norm(found - there, axis=-1)[inside]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_it_finds_what_an_affine_cannot(ndim, direction):
    fixed, moving, there = bent_pair(ndim, direction)
    plain = regtool.register(fixed, moving, "affine", seed=1)
    refined = regtool.register(fixed, moving, "affine", seed=1, refine=40)
    before, after = distances(plain, fixed, there), distances(refined, fixed, there)
    assert np.allclose(plain.affine, refined.affine)
    assert after.mean() < 0.6 * before.mean()
    told = refined.record["refine"]
    moved_by = np.linalg.norm(refined.field - plain.field, axis=-1)
    assert told["iterations"] == 40
    assert told["moved_mm_mean"] == pytest.approx(moved_by.mean(), rel=1e-4)
    assert "refine" not in plain.record


def test_a_field_begins_where_the_method_ended():
    """A method's good field is kept: steps that gain nothing are not taken."""
    fixed, moving, there = bent_pair(2, "oblique")
    settings = {"iterations": (60, 60)}
    alone = regtool.register(fixed, moving, "optimise", settings=settings)
    refined = regtool.register(fixed, moving, "optimise", settings=settings, refine=5)
    assert distances(refined, fixed, there).mean() < 1.2 * distances(alone, fixed, there).mean()
    way = np.linalg.norm(alone.field, axis=-1).mean()
    assert refined.record["refine"]["moved_mm_mean"] < 0.25 * way


def test_slices_stay_in_their_planes():
    grid = make_grid("oblique", (40, 36, 4), (1.5, 1.5, 8.0))
    flat = make_grid("identity", (40, 36), (1.5, 1.5))
    there = bend(points_of(flat), 4.0)
    images = [
        Volume(np.repeat(body(at)[None], 4, 0).astype(np.float32), grid)
        for at in (there, points_of(flat))
    ]
    plain = regtool.register(*images, "voxelmorph", slices="z", weights="none")
    refined = regtool.register(*images, "voxelmorph", slices="z", weights="none", refine=30)
    local = [r.record["similarity"]["local_ncc"]["after"] for r in (plain, refined)]
    assert local[1] > local[0] + 0.03
    normal = grid.direction_matrix[:, 2]
    assert np.abs(refined.field @ normal).max() < 1e-4
