"""Images and masks on the grid where they are needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from registration_cases import make_grid, save

from regtool.errors import GeometryError
from regtool.imaging.gridded import on_grid, read_mask_on
from regtool.imaging.reading import read_image
from regtool.imaging.resample import resample

HERE = make_grid("oblique", (10, 8, 6), (2.0, 2.0, 3.0))
FINER = make_grid("oblique", (20, 16, 6), (1.0, 1.0, 3.0))


def test_only_another_grid_is_resampled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, HERE.shape).astype(np.uint8)
    volume = read_image(save(tmp_path / "x.nii.gz", values, HERE))
    assert on_grid(volume, HERE) is volume.array
    np.testing.assert_array_equal(
        on_grid(volume, FINER), resample(volume, FINER, interpolation="nearest")
    )
    linear = on_grid(volume, FINER, "linear")
    assert linear.dtype == np.float32 and not np.array_equal(linear, linear.round())


def test_a_mask_is_true_inside(tmp_path: Path) -> None:
    values = np.zeros(HERE.shape, np.float32)
    values[2:4, 3:6, 4:7] = -0.5  # whatever is not 0
    path = tmp_path / "m.nii.gz"
    save(path, values, HERE)
    inside = read_mask_on(path, HERE, "the field")
    assert inside.dtype == bool and np.array_equal(inside, values != 0)
    assert read_mask_on(path, FINER, "the field").sum() == pytest.approx(4 * inside.sum(), rel=0.4)
    with pytest.raises(GeometryError, match=r"m.nii.gz: is 3-D, but the field is 2-D"):
        read_mask_on(path, make_grid("identity", (9, 9), (1.0, 1.0)), "the field")
    away = make_grid("identity", HERE.size, HERE.spacing, (900.0, 0.0, 0.0))
    with pytest.raises(GeometryError, match=r"m.nii.gz: empty on the grid of r.json"):
        read_mask_on(path, away, "r.json")
