"""Random textures as functions of position, and the noise of scanners."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from regtool.data.phantoms.pair import Floats, Points, rotation

TABLE = 32  # cells along an edge of the periodic random table


class Texture:
    """A smooth random field: zero mean, about unit variance, features of about ``cell`` mm.

    Value noise on a turned periodic lattice. Being a function of position, it can be asked at
    the same material points in two images, so that texture moves with the tissue.
    """

    def __init__(self, rng: np.random.Generator, cell: float) -> None:
        table = rng.standard_normal((TABLE, TABLE, TABLE), dtype=np.float32)
        self._table = (table * np.float32(1.9)).ravel()
        turn = rotation(tuple(rng.uniform(0, 360, 3)))
        self._turn = (turn / cell).astype(np.float32)
        self._shift = rng.uniform(0, TABLE, 3).astype(np.float32)

    def __call__(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The field at points in mm; the arrays broadcast, the answer has their shape."""
        base, fraction = [], []
        for row, shift in zip(self._turn, self._shift, strict=True):
            place = row[0] * x + row[1] * y + row[2] * z + shift
            low = np.floor(place)
            f = place - low
            base.append(low.astype(np.int32))
            fraction.append(f * f * (3 - 2 * f))
        near = [(b % TABLE) * TABLE**k for b, k in zip(base, (2, 1, 0), strict=True)]
        far = [((b + 1) % TABLE) * TABLE**k for b, k in zip(base, (2, 1, 0), strict=True)]
        fx, fy, fz = fraction

        def line(i: NDArray[np.int32], j: NDArray[np.int32]) -> Floats:
            a = self._table[i + j + near[2]]
            return a + fz * (self._table[i + j + far[2]] - a)

        def sheet(i: NDArray[np.int32]) -> Floats:
            a = line(i, near[1])
            return a + fy * (line(i, far[1]) - a)

        lower = sheet(near[0])
        return np.asarray(lower + fx * (sheet(far[0]) - lower), dtype=np.float32)


class Tubes:
    """A network of vessels: a function of position that is 1 on winding lines and 0 elsewhere.

    The lines are where two textures vanish together.
    """

    def __init__(self, rng: np.random.Generator, cell: float, width: float) -> None:
        self._first, self._second = Texture(rng, cell), Texture(rng, cell)
        self._width = np.float32(width)

    def distance(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Squared distance from the nearest line, in units of a few ``cell``, at points in mm."""
        a, b = self._first(x, y, z), self._second(x, y, z)
        return np.asarray(a * a + b * b, dtype=np.float32)

    def __call__(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The profile of the tubes in [0, 1] at points in mm."""
        return np.asarray(np.exp(-self.distance(x, y, z) / self._width), dtype=np.float32)


def where(
    mask: NDArray[np.bool_], function: Callable[[Floats, Floats, Floats], Floats], points: Points
) -> Floats:
    """``function`` at the points inside ``mask``, zero elsewhere: full size, cheap if sparse."""
    result = np.zeros(mask.shape, np.float32)
    inside = [np.broadcast_to(p, mask.shape)[mask] for p in points]
    result[mask] = function(*inside)
    return result


def blur(image: Floats, weight: float, axes: tuple[int, ...]) -> Floats:
    """Three-point smoothing along ``axes``, each neighbour with ``weight``; edges repeat."""
    for axis in axes:
        padded = np.concatenate(
            [image.take([0], axis), image, image.take([-1], axis)], axis, dtype=np.float32
        )
        n = image.shape[axis]
        before = padded.take(range(n), axis)
        after = padded.take(range(2, n + 2), axis)
        image = image + np.float32(weight) * (before + after - 2 * image)
    return image


def rician(image: Floats, sigma: float, rng: np.random.Generator) -> Floats:
    """The magnitude of ``image`` with complex Gaussian noise: what MR scanners show."""
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.sqrt(real * real + imaginary * imaginary)
