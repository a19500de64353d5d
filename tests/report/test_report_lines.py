"""Outlines, level lines, arrows and their SVG paths."""

from __future__ import annotations

import re

import numpy as np
import pytest

from regtool.report import lines


def distance(points: np.ndarray, line: np.ndarray) -> float:
    """The largest distance of the points from a polyline."""
    a, b = line[:-1], line[1:]
    along = b - a
    size = np.maximum((along**2).sum(axis=1), 1e-12)
    t = np.clip(((points[:, None] - a) * along).sum(-1) / size, 0, 1)
    foot = a + t[..., None] * along
    return float(np.linalg.norm(points[:, None] - foot, axis=-1).min(axis=1).max())


def test_outline_of_a_rectangle() -> None:
    mask = np.zeros((9, 12), dtype=bool)
    mask[2:6, 3:10] = True
    (line,) = lines.outlines(mask)
    np.testing.assert_array_equal(line[0], line[-1])
    assert line.min(axis=0).tolist() == [3.0, 2.0] and line.max(axis=0).tolist() == [10.0, 6.0]
    x, y = line[:-1].T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert area == pytest.approx(4 * 7 - 0.5)  # its four corners are cut
    assert len(line) < 20


def test_outline_reaches_the_border_and_holes_count() -> None:
    mask = np.ones((6, 6), dtype=bool)
    mask[2:4, 2:4] = False
    outer, inner = sorted(lines.outlines(mask), key=lambda p: -np.ptp(p))
    assert np.ptp(outer) == 6 and np.ptp(inner) == 2
    assert lines.outlines(np.zeros((4, 4), dtype=bool)) == []


def test_simplified_stays_near_and_gets_short() -> None:
    t = np.linspace(0, 2 * np.pi, 1200)
    wave = np.stack([40 * t, 25 * np.sin(t)], -1)
    straight = np.stack([np.linspace(0, 200, 900), np.linspace(0, 90, 900)], -1)
    short = lines.simplified([wave, straight], 0.2)
    for before, after in zip((wave, straight), short, strict=True):
        assert distance(before, after) <= 0.2
        np.testing.assert_array_equal(before[[0, -1]], after[[0, -1]])
        assert len(after) < len(before) / 8


def test_simplified_keeps_corners() -> None:
    corner = np.concatenate([np.stack([np.arange(33.0), np.zeros(33)], -1),
                             np.stack([np.full(32, 32.0), np.arange(1, 33.0)], -1)])  # fmt: skip
    (after,) = lines.simplified([corner], 0.2)
    assert [32.0, 0.0] in after.tolist()


def test_level_lines_lie_where_the_value_is() -> None:
    _, x = np.mgrid[0:20, 0:30] * 1.0
    found = lines.level_lines(2 * x + 1, [7.0, 21.0])
    assert len(found) == 2
    assert {round(float(line[:, 0].mean()), 6) for line in found} == {3.5, 10.5}
    assert all(np.ptp(line[:, 0]) == 0 and np.ptp(line[:, 1]) == 19 for line in found)


def test_level_lines_of_a_large_picture_reach_its_borders() -> None:
    x = np.broadcast_to(np.arange(2000.0), (1001, 2000))
    (line,) = lines.level_lines(x, [1234.5])
    np.testing.assert_allclose(line[:, 0], 1235.0)
    assert sorted(line[[0, -1], 1]) == [0.5, 1000.5]


def test_svg_path_reads_back() -> None:
    line = np.asarray([[0.5, 1.25], [3.0, 1.0], [2.5, -4.0], [0.5, 1.25]])
    path = lines.svg_path([line], closed=True)
    assert path.startswith("M") and path.endswith("z")
    figures = [int(v) for v in re.findall(r"-?\d+", path)]
    points = np.cumsum(np.asarray(figures).reshape(-1, 2), axis=0) / lines.SCALE
    np.testing.assert_allclose(points, line[:-1], atol=0.5 / lines.SCALE + 1e-9)
    assert lines.svg_path([np.asarray([[1.0, 1.0]])]) == ""


def test_squares_join_runs() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[1, 1:4] = mask[3, 5] = True
    wide, single = lines.squares(mask)
    assert wide.min(axis=0).tolist() == [1, 1] and wide.max(axis=0).tolist() == [4, 2]
    assert single.min(axis=0).tolist() == [5, 3] and single.max(axis=0).tolist() == [6, 4]


def test_arrows_point_along_their_shift() -> None:
    (line,) = lines.arrows(np.asarray([[2.0, 3.0]]), np.asarray([[4.0, -2.0]]))
    assert line[0].tolist() == [2.0, 3.0] and line[1].tolist() == [6.0, 1.0] == line[3].tolist()
    heads = line[[2, 4]] - line[1]
    assert (heads @ np.asarray([4.0, -2.0]) < 0).all()
