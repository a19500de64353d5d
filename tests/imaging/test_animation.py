"""Animations: times, grey values, the slice and the shape of the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regtool.imaging.animation import write_animation


def frames(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The pictures of a GIF and how long each is shown, in ms."""
    pictures, times = [], []
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0
        for number in range(gif.n_frames):
            gif.seek(number)
            pictures.append(np.asarray(gif.convert("L")))
            times.append(gif.info["duration"])
    return pictures, times


def test_it_rests_at_both_ends_and_uses_all_grey_values(tmp_path: Path) -> None:
    series = np.zeros((4, 300, 280), np.float32)
    for number in range(4):
        series[number, 40 * number : 40 * number + 40] = 100 + number
        series[number, :, 200:] = -50
    write_animation(tmp_path / "a.gif", series, (1.0, 1.0))
    pictures, times = frames(tmp_path / "a.gif")
    assert times == [700, 120, 120, 700]
    assert [p.shape for p in pictures] == [(300, 280)] * 4
    for number, picture in enumerate(pictures):
        assert picture[40 * number + 20, 100] > 245 and picture[250, 240] < 10
        assert abs(int(picture[250, 100]) - 255 * 50 / 153) < 8


def test_pixels_have_the_shape_of_the_spacing(tmp_path: Path) -> None:
    series = np.random.default_rng(0).uniform(size=(2, 30, 100)).astype(np.float32)
    write_animation(tmp_path / "a.gif", series, (2.0, 0.5))
    pictures, _ = frames(tmp_path / "a.gif")
    # 60 x 50 mm in pixels of 0.5 mm are 120 x 100, which twice as large has 200 on a side,
    # three times 300: 256 / 100 rounds to three.
    assert pictures[0].shape == (360, 300)


def test_of_volumes_the_slice_that_changes_most_across_the_widest_spacing(tmp_path: Path) -> None:
    series = np.zeros((2, 20, 5, 30), np.float32)
    series[:, :, 1, :10] = 1.0  # as bright, but it stays
    series[1, :, 3, 15:] = 1.0
    write_animation(tmp_path / "a.gif", series, (1.0, 6.0, 3.0))
    first, last = frames(tmp_path / "a.gif")[0]
    assert first.shape == (13 * 20, 13 * 90)
    assert first.max() < 10
    assert last[:, : 13 * 30].max() < 30 and last[:, 13 * 60 :].min() > 225


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_of_a_volume_of_one_slice_that_slice(tmp_path: Path, flat: int) -> None:
    shape, spacing = [30, 40], [1.0, 2.0]
    shape.insert(flat, 1)
    spacing.insert(flat, 1.5)
    series = np.random.default_rng(0).uniform(size=(2, *shape)).astype(np.float32)
    write_animation(tmp_path / "a.gif", series, tuple(spacing))
    assert frames(tmp_path / "a.gif")[0][0].shape == (9 * 30, 9 * 80)


def test_a_constant_series_is_black(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.gif", np.full((2, 8, 8), 7.0), (1.0, 1.0))
    assert max(p.max() for p in frames(tmp_path / "a.gif")[0]) == 0
