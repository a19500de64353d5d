"""Cubic interpolation overshoots at edges; colours must not wrap round there."""

from __future__ import annotations

import numpy as np

from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid


def test_overshoot_stays_at_black_and_white() -> None:
    array = np.zeros((12, 12, 3), np.uint8)
    array[:, 6:] = 255
    direction = (1.0, 0.0, 0.0, 1.0)
    grid = Grid((12, 12), (1.0, 1.0), direction, (0.0, 0.0))
    between = Grid((11, 12), (1.0, 1.0), direction, (0.25, 0.0))
    found = resample(Volume(array, grid, "rgb"), between, [], "bspline")
    assert found.dtype == np.uint8
    assert (found[:, :5] < 64).all() and (found[:, 6:] > 192).all()
