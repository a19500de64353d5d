"""A short-axis cardiac MR stack (cine bSSFP) at end-diastole and end-systole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regtool.data.phantoms.heart_motion import HeartShape
from regtool.data.phantoms.heart_scene import Scene
from regtool.data.phantoms.noise import blur, rician
from regtool.data.phantoms.pair import VIEWS, Floats, Phantom, Points, axes_mm, grid_of, rotation

NAMES = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
SUB = 2  # samples through a slice: partial volume of thick slices


@dataclass(frozen=True)
class _View:
    """How the scanner's voxels lie in the heart's coordinates."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    centre: tuple[float, float]
    middle: float

    def points(self, sub: int = 1) -> Points:
        """Heart coordinates of the voxels, (z, y, x) or (1, y, x), the base in the first slice."""
        if len(self.shape) == 2:
            y, x = axes_mm(self.shape, self.spacing)
            s = np.full((1, 1, 1), self.middle, np.float32)
            return x[None] - self.centre[0], y[None] - self.centre[1], s
        z, y, x = axes_mm(self.shape, self.spacing, sub)
        return x - self.centre[0], y - self.centre[1], np.float32(self.middle) - z


def heart(
    ndim: int = 3,
    seed: int = 0,
    shape: tuple[int, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
) -> Phantom:
    """End-systole (fixed) and end-diastole (moving) of one heart; ``seed`` varies the anatomy.

    ``shape`` and ``spacing`` (mm) in array order; defaults are 192 x 224 pixels of 1.4 mm, in 3-D
    12 slices of 8 mm, base first, in a double-oblique plane. Labels: 1 right ventricle, 2
    myocardium, 3 left ventricle (papillary muscles included), as in ACDC. Both phases show one
    analytic anatomy, so the displacement is exact.
    """
    rng = np.random.default_rng([seed, 0x48])
    body = HeartShape.draw(rng)
    scene = Scene(body, rng)
    usual = VIEWS[f"heart{ndim}d"]
    shape, spacing = shape or usual[0], spacing or usual[1]
    centre = (rng.uniform(2, 14), rng.uniform(-14, -4))
    middle = 0.55 * body.length if ndim == 2 else body.length / 2 + rng.uniform(0, 3)
    view = _View(shape, spacing, centre, middle)
    direction = rotation((rng.uniform(-42, -28), rng.uniform(28, 42), rng.uniform(-12, 12)))
    world = rng.uniform((-60, -40, -40), (-20, 0, 20))
    if ndim == 2:
        grid = grid_of(shape, spacing, np.eye(2), tuple(world[:2]))
    else:
        grid = grid_of(shape, spacing, direction, tuple(world))
    points = view.points()
    material = body.to_diastole(points, through_plane=ndim == 3)
    return Phantom(
        fixed=_scan(scene, view, rng, systole=True),
        moving=_scan(scene, view, rng, systole=False),
        fixed_labels=scene.labels(material).reshape(shape),
        moving_labels=scene.labels(points).reshape(shape),
        grid=grid,
        displacement=_displacement(points, material, spacing),
        names=NAMES,
        modality="mr",
    )


def _scan(scene: Scene, view: _View, rng: np.random.Generator, systole: bool) -> np.ndarray:
    ndim = len(view.shape)
    points = view.points(SUB)
    material = scene.body.to_diastole(points, ndim == 3) if systole else points
    image = scene.image(points, material)
    if ndim == 3:
        image = image.reshape(view.shape[0], SUB, *view.shape[1:]).mean(1, dtype=np.float32)
        image *= rng.normal(1, 0.012, (len(image), 1, 1)).astype(np.float32)
    image = rician(blur(image, 0.13, (-1, -2)), 17.0, rng)
    return np.clip(np.rint(image), 0, 4095).astype(np.int16).reshape(view.shape)


def _displacement(points: Points, material: Points, spacing: tuple[float, ...]) -> Floats:
    x, y, s = (m - p for m, p in zip(material, points, strict=True))
    if len(spacing) == 2:
        return np.stack([(y / spacing[0])[0], (x / spacing[1])[0]]).astype(np.float32)
    return np.stack([-s / spacing[0], y / spacing[1], x / spacing[2]]).astype(np.float32)
