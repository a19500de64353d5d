"""Two T1-weighted, skull-stripped brains that differ by a smooth deformation."""

from __future__ import annotations

import numpy as np

from regtool.data.phantoms.noise import Texture, blur, rician
from regtool.data.phantoms.pair import VIEWS, Floats, Phantom, Points, axes_mm, grid_of, rotation
from regtool.data.phantoms.shapes import capsule, edge, ellipsoid, paint, smoothstep, soft_max

NAMES = {
    1: "CSF", 2: "grey matter", 3: "white matter", 4: "lateral ventricles",
    5: "thalamus", 6: "caudate", 7: "putamen", 8: "pallidum",
}  # fmt: skip
SIGNAL = {
    1: 170.0, 2: 560.0, 3: 850.0, 4: 150.0, 5: 690.0, 6: 590.0, 7: 610.0, 8: 755.0,
}  # fmt: skip
CORTEX = 3.2  # thickness in mm
SULCUS_CELL = 11.5


def brain(
    seed: int = 0,
    shape: tuple[int, ...] = VIEWS["brain"][0],
    spacing: tuple[float, ...] = VIEWS["brain"][1],
) -> Phantom:
    """Two brains on one grid (RAS-stored); ``seed`` varies folds, ventricles and the difference.

    ``shape`` and ``spacing`` (mm) in array order (z, y, x). Labels: 1 CSF, 2 grey matter, 3 white
    matter, 4 lateral ventricles, 5 thalamus, 6 caudate, 7 putamen, 8 pallidum.
    """
    rng = np.random.default_rng([seed, 0x42])
    scene = _Scene(rng)
    z, y, x = axes_mm(shape, spacing)
    points = (-x, -y, z)
    material = scene.other_brain(points)
    moving, moving_labels = scene.scan(points, rng, gain=1.0)
    fixed, fixed_labels = scene.scan(material, rng, gain=rng.uniform(0.85, 1.15))
    across, along, up = (m - p for m, p in zip(material, points, strict=True))
    truth = np.stack([up / spacing[0], -along / spacing[1], -across / spacing[2]])
    grid = grid_of(shape, spacing, np.diag([-1.0, -1.0, 1.0]), tuple(rng.uniform(-10, 10, 3)))
    return Phantom(
        fixed, moving, fixed_labels, moving_labels, grid, truth.astype(np.float32), NAMES, "mr"
    )


class _Scene:
    """One brain in mm, LPS about the anterior commissure, as a function of position."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._folds = Texture(rng, SULCUS_CELL)
        self._bend = Texture(rng, 26.0)
        self._grain = Texture(rng, 4.0)
        self._bias = Texture(rng, 90.0)
        self._warp = [Texture(rng, 56.0) for _ in range(3)]
        self._ventricle = rng.uniform(0.85, 1.35)
        self._swell = rng.uniform(-0.25, 0.3)
        self._turn = rotation(tuple(rng.uniform(-3, 3, 3))) * rng.uniform(0.97, 1.03, (1, 3))
        self._shift = rng.uniform(-2, 2, 3)

    def other_brain(self, points: Points) -> Points:
        """Where each point of the second brain lies in the first: affine, then smooth, no folds."""
        x, y, z = points
        turned = [
            np.float32(row[0]) * x + np.float32(row[1]) * y + np.float32(row[2]) * z + np.float32(t)
            for row, t in zip(self._turn, self._shift, strict=True)
        ]
        moved = [
            c + np.float32(2.2) * warp(*turned) for c, warp in zip(turned, self._warp, strict=True)
        ]
        near = np.exp(-sum((m / 34) ** 2 for m in (moved[0], moved[1] - 8, moved[2] - 10)))
        pinch = 1 - np.float32(self._swell) * near
        return moved[0] * pinch, moved[1] * (1 - 0.3 * (1 - pinch)), moved[2] * pinch

    def scan(
        self, points: Points, rng: np.random.Generator, gain: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image (int16) and labels (uint8) of the tissue at material ``points``."""
        bend = self._bend(*points)
        hull = self._hull(points, bend)[-1]
        head = hull > -3
        inside = tuple(np.broadcast_to(c, hull.shape)[head] for c in points)
        layers = self._tissues((inside[0], inside[1], inside[2]), bend[head])
        signal, kind = np.zeros_like(inside[0]), np.zeros(inside[0].shape, np.uint8)
        for label, coverage in layers:
            paint(signal, SIGNAL[label], coverage)
            kind[coverage > 0.5] = label
        z = inside[2]
        field = 1 + 0.06 * self._bias(*inside) + 0.0006 * z + 0.02 * self._grain(*inside)
        image = np.zeros(hull.shape, np.float32)
        image[head] = signal * field * edge(hull[head], 2.0)
        image = blur(image, 0.12, (0, 1, 2)) * np.float32(gain)
        image = np.where(hull > -2, rician(image, 20.0, rng), 0)
        labels = np.zeros(hull.shape, np.uint8)
        labels[head] = np.where(hull[head] > 0, kind, 0)
        return np.clip(np.rint(image), 0, 4095).astype(np.int16), labels

    def _hull(self, p: Points, bend: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Depths below cerebrum, cerebellum, brain stem, and their union."""
        x, y, z = p
        side = np.abs(x)
        top = ellipsoid(p, (0, 0, 12), (67, 84, 56)) + 1.2 * bend
        top = -soft_max(-top, -(z + 22 + 0.10 * np.abs(y)), 8.0)
        temporal = ellipsoid((side, y, z), (43, -12, -22), (22, 36, 20)) + 1.0 * bend
        cerebrum = soft_max(top, temporal, 5.0) - 1.2
        cerebellum = soft_max(
            ellipsoid((side, y, z), (24, 50, -39), (27, 26, 19)),
            ellipsoid(p, (0, 54, -40), (16, 22, 19)), 3.0,
        )  # fmt: skip
        stem = soft_max(
            capsule(p, (0, 14, -14), (0, 30, -75), (14.5, 9.0)),
            ellipsoid(p, (0, 15, -35), (17, 14, 14)), 3.0,
        )  # fmt: skip
        return cerebrum, cerebellum, stem, np.maximum(np.maximum(cerebrum, cerebellum), stem)

    def _sulci(self, p: Points, depth: Floats, bend: Floats) -> Floats:
        """Distance in mm from the nearest fissure or sulcus, growing in the depth of the brain."""
        x, y, z = p
        side = np.abs(x)
        folds: Floats = np.abs(self._folds(x + 3 * bend, y, z)) * np.float32(0.42 * SULCUS_CELL)
        folds = folds + np.maximum(depth - 13, 0) * np.float32(0.7)
        callosum = (1 - np.sqrt(((y - 4) / 46) ** 2 + ((z - 6) / 25) ** 2)) * 25
        middle = side - 0.3 + np.maximum(callosum, 0) * 2
        sylvian: Floats = np.abs(z + 7 - 0.3 * (y + 12) + 2 * bend) + np.maximum(39 - side, 0)
        sylvian = sylvian - 0.6 + np.maximum(np.abs(y + 6) - 32, 0) * np.float32(0.5)
        return np.minimum(np.minimum(folds, middle), sylvian)

    def _tissues(self, p: Points, bend: Floats) -> list[tuple[int, Floats]]:
        """Pairs of label and coverage, to be laid over each other."""
        x, y, z = p
        mirrored = (np.abs(x), y, z)
        cerebrum, cerebellum, stem, hull = self._hull(p, bend)
        apart = np.minimum(self._sulci(p, cerebrum, bend), cerebrum)
        grain = self._grain(x, y, z)
        folia = np.abs(np.sin((z + 40) * 0.75 + 0.05 * y + 0.8 * grain)) * 3.0
        leaf = np.minimum(cerebellum, folia + np.maximum(cerebellum - 9, 0))
        inside = edge(cerebrum)
        layers: list[tuple[int, Floats]] = [(1, np.ones_like(hull))]
        layers.append((3, edge(stem)))
        layers.append((2, edge(np.minimum(leaf - 0.35, cerebellum))))
        layers.append((3, edge(np.minimum(leaf - 2.3, cerebellum - 3.5))))
        layers.append((1, inside))
        layers.append((2, inside * edge(apart - 0.75)))
        layers.append((3, inside * edge(apart - 0.75 - CORTEX + 0.3 * grain)))
        layers += [(label, edge(d)) for label, d in self._deep(mirrored)]
        third = ellipsoid(p, (0, 3, -2), (2.2 * self._ventricle, 15, 10))
        fourth = ellipsoid(p, (0, 33, -38), (7, 5, 10))
        layers.append((1, edge(np.maximum(third, fourth))))
        return layers

    def _deep(self, p: Points) -> list[tuple[int, Floats]]:
        """Depths below nuclei and ventricles; ``p`` has its x folded onto one side."""
        k = self._ventricle
        x, y, z = p
        slanted = (x - 0.25 * y, y, z)
        caudate = soft_max(
            ellipsoid(p, (13.5, -19, 7), (5.5, 11, 8)),
            capsule(p, (17, -14, 14), (19, 20, 17), (4.0, 2.5)), 1.5,
        )  # fmt: skip
        horns = (
            capsule(p, (8, -32, 8), (9, -12, 16), (3.4 * k, 4.2 * k)),
            capsule(p, (9, -12, 16), (14, 18, 20), (4.2 * k, 4.4 * k)),
            capsule(p, (14, 18, 20), (24, 36, 8), (4.4 * k, 5.6 * k)),
            capsule(p, (24, 36, 8), (22, 56, 5), (5.0 * k, 1.5)),
            capsule(p, (24, 36, 8), (31, 2, -17), (3.6 * k, 1.5 * k)),
        )
        ventricle = horns[0]
        for horn in horns[1:]:
            ventricle = soft_max(ventricle, horn, 1.0)
        ventricle = np.minimum(ventricle, x - 0.8)
        wall = smoothstep(x, 0, 6)
        return [
            (8, ellipsoid(slanted, (18.5, 0, 0), (4.2, 9, 6))),
            (7, ellipsoid(slanted, (25.5, 0, 3), (4.6, 17, 10))),
            (5, ellipsoid(slanted, (9.5, 9, 4), (7.5, 14, 8.5)) * wall - (1 - wall)),
            (6, caudate),
            (4, ventricle),
        ]
