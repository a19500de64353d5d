"""Scans of one object on any grid, and how far a found alignment is from the true one."""

from __future__ import annotations

import numpy as np

from regtool.imaging.resample import transform_points
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid


def blobs(points: np.ndarray) -> np.ndarray:
    """A smooth object without symmetry, in mm; zero outside."""
    ndim = points.shape[-1]
    scaled = points / np.array([38.0, 30.0, 26.0][:ndim])
    body = 60 / (1 + np.exp(12 * ((scaled**2).sum(-1) - 1)))
    for centre, width, height in (((12, 8, 5), 8, 50), ((-15, 4, -6), 6, -35), ((2, -14, 8), 7, 40),
                                  ((-4, 13, -11), 5, 45), ((20, -6, -9), 5, -30)):  # fmt: skip
        apart = ((points - np.array(centre[:ndim])) ** 2).sum(-1)
        body = body + height * np.exp(-apart / (2 * width**2))
    return body * ((scaled**2).sum(-1) < 1.4)


def world_points(grid: Grid) -> np.ndarray:
    axes = [np.arange(n) for n in grid.size]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    world = grid.index_to_world
    points = index @ world[:-1, :-1].T + world[:-1, -1]
    return points.transpose(*range(grid.ndim)[::-1], grid.ndim)


def scan(grid: Grid, matrix: np.ndarray) -> Volume:
    """The object seen on a grid, moved so that ``matrix`` maps the object's frame to the scan."""
    back = np.linalg.inv(matrix)
    points = world_points(grid)
    values = blobs(points @ back[:-1, :-1].T + back[:-1, -1])
    noise = np.random.default_rng(1).normal(size=values.shape)
    return Volume((values * 8 + noise).astype(np.int16), grid)


def truth(ndim: int, affine: bool, shift: float = 14.0) -> np.ndarray:
    turn = np.eye(3)
    for plane, angle in (((0, 1), 0.22), ((1, 2), -0.15 * (ndim == 3))):
        one = np.eye(3)
        c, s = np.cos(angle), np.sin(angle)
        one[np.ix_(plane, plane)] = (c, -s), (s, c)
        turn = turn @ one
    if affine:
        turn = turn @ (np.eye(3) + np.array([[0.08, 0.05, 0], [0, -0.06, 0.03], [0, 0, 0.05]]))
    matrix = np.eye(ndim + 1)
    matrix[:-1, :-1] = turn[:ndim, :ndim]
    matrix[:-1, -1] = (shift, -6.0, 4.0)[:ndim]
    return matrix


def error_mm(found: np.ndarray, expected: np.ndarray, reach: float = 25.0) -> float:
    ndim = found.shape[0] - 1
    points = np.random.default_rng(0).uniform(-reach, reach, (200, ndim))
    points[:, 2:] *= 0.6
    apart = transform_points(points, [found]) - transform_points(points, [expected])
    return float(np.linalg.norm(apart, axis=1).mean())


FLIP = np.diag([-1.0, -1.0, 1.0])


def permuted(volume: Volume, order: tuple[int, int, int]) -> Volume:
    """The same samples of the world with the index axes (x, y, z) in another order."""
    grid = volume.grid
    turned = Grid(
        tuple(grid.size[a] for a in order), tuple(grid.spacing[a] for a in order),
        tuple(grid.direction_matrix[:, order].ravel()), grid.origin,
    )  # fmt: skip
    array = np.transpose(volume.array, [2 - a for a in reversed(order)])
    return Volume(np.ascontiguousarray(array), turned)
