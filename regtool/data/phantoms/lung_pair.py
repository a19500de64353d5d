"""Inhale/exhale pairs of a thorax that can be scanned at any place, with the exact motion."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regtool.data.phantoms.lung_anatomy import Anatomy
from regtool.data.phantoms.lung_motion import FAMILIES, Motion
from regtool.data.phantoms.pair import Floats, Phantom, Points, rotation
from regtool.spatial.grid import Grid

NAMES = {1: "right lung", 2: "left lung"}
MEAN_MM = (6.5, 9.5)
"""Range of the mean displacement over the lungs, from which each pair draws its own."""
MOST_MM = 26.0
"""No tissue of the lungs moves further."""
LEAST_DET = 0.2
"""Smallest determinant of the map, by central differences on the grid of the images."""


class Thorax(Protocol):
    """A thorax in one phase, as a function of position in LPS mm about its middle."""

    @property
    def anatomy(self) -> Anatomy:
        """Where its lungs, spine and chest wall are."""

    def scan(
        self, p: Points, squeeze: Floats, rng: np.random.Generator
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Image (HU) and labels at points, all arrays of one 3-D shape, with noise of its own.

        ``squeeze`` multiplies the density of the lungs.
        """


def breathe(
    thorax: Thorax,
    family: str,
    rng: np.random.Generator,
    grid: Grid,
    middle: tuple[float, ...],
    down: bool = True,
    pose: NDArray[np.float64] | None = None,
) -> Phantom:
    """A pair on ``grid``: the moving image shows ``thorax``, the fixed one its other phase.

    ``middle`` (LPS mm) of the grid's world is the thorax' own middle; ``pose`` (3, 3) then turns
    and scales the patient. ``down``: the fixed image is the expiration, its tissue lies lower in
    the moving one; otherwise the inspiration. Lungs keep their mass: their density in the fixed
    image is that of the moving one times the determinant of the map (Yin et al., Med. Phys. 36,
    2009). The map is evaluated at every voxel, not interpolated.
    """
    to_scene, p = _places(grid, middle, np.eye(3) if pose is None else pose)
    motion = FAMILIES[family](thorax.anatomy, rng)
    amplitude = _amplitude(motion, thorax.anatomy.inside, rng.uniform(*MEAN_MM))
    if not down:
        amplitude = -amplitude
    while True:
        moved = motion(p, amplitude)
        displacement = _voxels(moved, to_scene)
        squeeze = _determinant(displacement)
        if squeeze[1:-1, 1:-1, 1:-1].min() >= LEAST_DET:
            break
        amplitude *= 0.9
    material = tuple(np.asarray(q + d, np.float32) for q, d in zip(p, moved, strict=True))
    fixed, fixed_labels = thorax.scan((material[0], material[1], material[2]), squeeze, rng)
    moving, moving_labels = thorax.scan(p, np.ones(grid.shape, np.float32), rng)
    return Phantom(
        fixed, moving, fixed_labels, moving_labels, grid, displacement, NAMES, modality="ct"
    )


def posed(rng: np.random.Generator, scale: float, degrees: float) -> NDArray[np.float64]:
    """A random patient: axes stretched by up to exp(``scale``), turned a little: (3, 3)."""
    turn = rotation(tuple(rng.uniform(-degrees, degrees, 3)))
    return np.asarray(turn @ np.diag(np.exp(rng.uniform(-scale, scale, 3))))


def _places(
    grid: Grid, middle: tuple[float, ...], pose: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Points]:
    """Linear part from tensor-ordered voxels to the thorax, and every voxel's place in it."""
    linear = pose @ grid.index_to_world[:3, :3][:, ::-1]
    first = pose @ (np.asarray(grid.origin) - np.asarray(middle))
    index = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grid.shape), indexing="ij")
    x, y, z = (
        sum(np.float32(linear[i, j]) * index[j] for j in range(3)) + np.float32(first[i])
        for i in range(3)
    )
    return linear, (np.asarray(x), np.asarray(y), np.asarray(z))


def _amplitude(motion: Motion, inside: Floats, mean: float) -> float:
    """The amplitude at which places in the lungs move by ``mean`` mm on average."""
    p = inside[0], inside[1], inside[2]
    amplitude = mean
    for _ in range(4):  # flows are not quite linear in their amplitude
        far = np.linalg.norm(np.stack(motion(p, amplitude)), axis=0)
        amplitude *= min(mean / float(far.mean()), MOST_MM / float(far.max()))
    return amplitude


def _voxels(moved: Points, to_scene: NDArray[np.float64]) -> NDArray[np.float32]:
    back = np.linalg.inv(to_scene).astype(np.float32)
    return np.stack([sum(back[i, j] * moved[j] for j in range(3)) for i in range(3)])


def _determinant(displacement: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    from regtool.spatial.jacobian import jacobian_determinant

    result: NDArray[Any] = jacobian_determinant(torch.from_numpy(displacement)[None])[0].numpy()
    return np.asarray(result, np.float32)
