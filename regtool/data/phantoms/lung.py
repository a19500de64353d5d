"""A thorax CT at the end of expiration and of inspiration, in Hounsfield units."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regtool.data.phantoms.lung_anatomy import Anatomy
from regtool.data.phantoms.lung_pair import breathe
from regtool.data.phantoms.noise import Texture, Tubes, blur, where
from regtool.data.phantoms.pair import VIEWS, Floats, Phantom, Points, grid_of
from regtool.data.phantoms.shapes import (
    capsule,
    edge,
    ellipse,
    ellipsoid,
    paint,
    smoothstep,
    soft_max,
)

SOFT = 3.5  # mm over which an edge spreads: the voxel and the reconstruction kernel


def lung(
    seed: int = 0,
    shape: tuple[int, ...] = VIEWS["lung"][0],
    spacing: tuple[float, ...] = VIEWS["lung"][1],
    family: str = "diaphragm",
) -> Phantom:
    """Expiration (fixed) and inspiration (moving) of one chest; ``seed`` varies the anatomy.

    ``shape`` and ``spacing`` (mm) in array order (z, y, x), feet first. Labels: 1 right lung, 2
    left lung. ``family`` is one of the motions of ``lung_motion``; lungs grow denser as they lose
    air.
    """
    rng = np.random.default_rng([seed, 0x4C])
    chest = Chest(rng)
    centre = (0.0, rng.uniform(-180, -150), -150.0)
    grid = grid_of(shape, spacing, np.eye(3), centre)
    return breathe(chest, family, rng, grid, centre)


class Chest:
    """One chest in mm, LPS about its middle, as a function of position."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._grain = Texture(rng, 5.0)
        self._broad = Texture(rng, 45.0)
        self._large = Tubes(rng, 34.0, 1.0)
        self._small = Tubes(rng, 17.0, 1.0)
        self._fat = rng.uniform(8, 18)
        self._dome = rng.uniform(-84, -72)
        self._heart = rng.uniform(0.92, 1.08)
        self._rib = rng.uniform(0, 1)
        self._tree = Tubes(rng, 25.0, 1.0)
        self._vessels = rng.uniform(0.7, 1.5)
        self._domes = 50 * rng.uniform(0.75, 1.2), 38 * rng.uniform(0.75, 1.2)
        self._air = rng.uniform(110, 165), rng.uniform(25, 80)
        self._kernel = rng.uniform(0.1, 0.2)
        self._noise = rng.uniform(10, 20)

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the lungs and the chest wall are, for motions."""
        return Anatomy.of(self.lungs_at, (300.0, 200.0, 280.0), np.zeros(3, np.float32))

    def lungs_at(self, p: Points) -> NDArray[np.uint8]:
        """1 in the right lung, 2 in the left, elsewhere 0, at points."""
        shape = np.broadcast_shapes(*(q.shape for q in p))
        broad = self._broad(*p)
        right, left = self._lungs(
            p, self._wall(np.zeros(shape, np.float32), p, broad, broad), broad
        )
        return np.where(right > 0, 1, np.where(left > 0, 2, 0)).astype(np.uint8)

    def scan(
        self, p: Points, squeeze: Floats, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image (HU, int16) and labels (uint8); ``squeeze`` multiplies the density of the lungs."""
        x, y, z = p
        shape = squeeze.shape
        broad = self._broad(x, y, z)
        grain = where(np.broadcast_to(ellipse(x, y, (0, 0), (165, 110)) > 0, shape), self._grain, p)
        canvas = np.full(shape, -1000, np.float32)
        cage = self._wall(canvas, p, broad, grain)
        right, left = self._lungs(p, cage, broad)
        self._middle(canvas, p, cage, broad, grain)
        lungs = np.maximum(right, left)
        self._parenchyma(canvas, p, lungs, squeeze, grain)
        self._airways(canvas, p)
        labels = np.zeros(shape, np.uint8)
        labels[right > 0] = 1
        labels[left > 0] = 2
        image = blur(canvas, self._kernel, (0, 1, 2))
        image += np.float32(self._noise) * rng.standard_normal(shape, dtype=np.float32)
        return np.clip(np.rint(image), -1024, 3071).astype(np.int16), labels

    def _wall(self, canvas: Floats, p: Points, broad: Floats, grain: Floats) -> Floats:
        """Skin, fat, muscle, ribs, sternum, spine; the depth below the inner chest wall."""
        x, y, z = p
        skin = ellipse(x, y, (0, 0), (158, 108), power=2.5) + 1.5 * broad
        paint(canvas, -100 + 6 * grain, edge(skin, SOFT))
        paint(canvas, 20, edge(1.5 - np.abs(skin - 1), SOFT) * 0.6)
        muscle = skin - np.float32(self._fat) - 2 * broad
        shoulder = 16 * smoothstep(z, 60, 150)
        paint(canvas, 52 + 6 * grain, edge(muscle, SOFT))
        seam = edge(1.6 - np.abs(muscle - 6 - broad), SOFT) * smoothstep(np.abs(x), 40, 90)
        paint(canvas, -80, seam * 0.7)
        upper = np.clip((z - 30) / 130, 0, 1) ** 2
        narrow = 1 - np.float32(0.42) * upper
        cage = ellipse(x / narrow, y / (1 - 0.2 * upper), (0, 0), (128, 80), power=2.3)
        cage = np.minimum(cage, muscle - 12 - shoulder)
        level = (z + 0.55 * (40 - y) + 0.08 * np.abs(x)) / 25 + np.float32(self._rib)
        offset = np.abs(level - np.floor(level) - np.float32(0.5)) * 25
        rib = (1 - np.sqrt(((cage + 6) / 5.2) ** 2 + (offset / 6.5) ** 2)) * 5.2
        rib = np.minimum(rib, (np.abs(x) - 26) * np.float32(0.7))
        paint(canvas, 520, edge(rib, SOFT))
        paint(canvas, 180, edge(rib - 2.8, SOFT))
        sternum = np.minimum(ellipse(x, y, (0, -88), (17, 6)), 45 - np.abs(z - 25))
        paint(canvas, 330, edge(sternum, SOFT))
        self._spine(canvas, p, grain)
        return cage

    def _spine(self, canvas: Floats, p: Points, grain: Floats) -> None:
        x, y, z = p
        step = np.abs((z / 25) - np.floor(z / 25) - 0.5) * 25
        bone = ellipse(x, y, (0, 58), (17, 14), power=2.5)
        body = np.minimum(bone, 10.5 - step)
        paint(canvas, 70, edge(bone, SOFT))
        paint(canvas, 430, edge(body, SOFT))
        paint(canvas, 190 + 25 * grain, edge(body - 2.5, SOFT))
        arch = np.maximum(
            ellipse(x, y, (0, 82), (13, 10)),
            np.minimum(ellipse(np.abs(x), y, (18, 84), (16, 4.5), 15), 7 - step),
        )
        spine = np.minimum(ellipse(x, y, (0, 96), (4, 12)), 9 - step)
        paint(canvas, 420, edge(np.maximum(arch, spine), SOFT))
        paint(canvas, 35, edge(ellipse(x, y, (0, 80), (8, 7)), SOFT))

    def _diaphragm(self, p: Points) -> Floats:
        """Height in mm above the diaphragm: two domes, the right one higher."""
        x, y, z = p
        dome = np.float32(self._dome)
        high, low = (np.float32(d) for d in self._domes)
        right = high * np.exp(-(((x + 62) / 62) ** 2) - ((y + 8) / 66) ** 2)
        left = low * np.exp(-(((x - 62) / 58) ** 2) - ((y + 2) / 66) ** 2)
        return np.asarray(z - dome - right - left + 30 + 0.28 * (y + 10), np.float32)

    def _lungs(self, p: Points, cage: Floats, broad: Floats) -> tuple[Floats, Floats]:
        """Depths below the surfaces of the right and the left lung."""
        x, y, z = p
        apex = (1 - np.sqrt((x / 125) ** 2 + (y / 85) ** 2 + (np.clip(z, 0, None) / 132) ** 2)) * 60
        room = np.minimum(np.minimum(cage, apex), self._diaphragm(p))
        heart = self._heart_depth(p) + 4
        column: Floats = ellipse(x, y, (0, 30), (24, 62), power=2.4) + 3 * broad
        column = soft_max(column, ellipse(x, y + 0 * z, (4, -10), (30, 38)) + 0.05 * z, 6.0)
        back = ellipse(x, y, (0, 62), (24, 24))
        middle = np.maximum(np.maximum(heart, column), back)
        free = np.minimum(room, -middle)
        return np.where(x < 0, free, -1), np.where(x >= 0, free, -1)

    def _heart_depth(self, p: Points) -> Floats:
        k = self._heart
        left = ellipsoid(p, (30, -28, -38), (46 * k, 38 * k, 42 * k))
        right = ellipsoid(p, (-8, -30, -30), (38 * k, 34 * k, 42 * k))
        return soft_max(left, right, 6.0)

    def _middle(
        self, canvas: Floats, p: Points, cage: Floats, broad: Floats, grain: Floats
    ) -> None:
        """Fat, heart and great vessels, and what lies below the diaphragm."""
        x, y, z = p
        paint(canvas, -95 + 8 * grain, edge(cage + 1, SOFT))
        below = np.minimum(-self._diaphragm(p), cage + 3)
        paint(canvas, -100 + 8 * grain, edge(below, SOFT))
        liver = np.minimum(below - 2, ellipsoid(p, (-48, -5, -130), (105, 84, 90)) + 3 * broad)
        paint(canvas, 62 + 5 * grain, edge(liver, SOFT))
        spleen = np.minimum(below - 2, ellipsoid(p, (86, 38, -120), (32, 34, 52)))
        paint(canvas, 52 + 5 * grain, edge(spleen, SOFT))
        stomach = np.minimum(below - 3, ellipsoid(p, (62, -12, -122), (42, 40, 50)) + 2 * broad)
        paint(canvas, 40, edge(stomach, SOFT))
        paint(canvas, -940, edge(stomach - 4, SOFT) * edge(-30 - y, SOFT))
        heart = self._heart_depth(p)
        paint(canvas, 45 + 6 * grain, edge(heart, SOFT))
        paint(canvas, 38, edge(heart - 12, SOFT))
        down = np.minimum(ellipse(x, y, (22, 42), (12, 12)), 62 - z)
        up = np.minimum(ellipse(x, y, (-8, -24), (15, 15)), np.minimum(62 - z, z + 20))
        arch = capsule(p, (-8, -22, 60), (22, 42, 62), (14.0, 12.0))
        trunk = capsule(p, (14, -32, 0), (10, -6, 26), (13.0, 12.0))
        sides = capsule((np.abs(x), y, z), (6, -4, 24), (44, 8, 14), (10.0, 7.0))
        cava = np.minimum(ellipse(x, y, (-27, -14), (9, 9)), z + 10)
        neck = [
            np.minimum(ellipse(x, y, (cx, cy), (6, 6)), z - 60)
            for cx, cy in ((-20, -20), (20, -18), (9, -26))
        ]
        for vessel in (down, up, arch, trunk, sides, cava, *neck):
            paint(canvas, 42 + 6 * grain, edge(vessel, SOFT))
        gullet = ellipse(x, y, (8, 36), (8, 5.5))
        paint(canvas, 40, edge(gullet, SOFT))

    def _parenchyma(
        self, canvas: Floats, p: Points, depth: Floats, squeeze: Floats, grain: Floats
    ) -> None:
        x, y, z = p
        inside = edge(depth, SOFT)
        mask = inside > 0
        hilum = np.abs(x) - 38, y - 8, z - 10
        far = np.sqrt(hilum[0] ** 2 + hilum[1] ** 2 + hilum[2] ** 2)
        air = self._air[0] + self._air[1] * np.clip((y + 60) / 130, 0, 1) + 16 * grain
        paint(canvas, air.astype(np.float32) * squeeze - 1000, inside)
        thick = np.float32(0.010) + np.float32(0.07) * np.exp(-far / 32)
        large = np.exp(-where(mask, self._large.distance, p) / thick)
        # Branches run outwards from the hilum: across, the pattern spreads with the distance.
        spread = (80 + 0.3 * far) / (far + 4)
        side = np.where(x < 0, np.float32(0), np.float32(300))
        out = hilum[0] * spread + side, hilum[1] * spread, hilum[2] * spread
        trunk = np.clip(np.float32(0.045 * self._vessels) * (60 / (far + 10)) ** 2, 0, 0.35)
        tree = np.exp(-where(mask, self._tree.distance, out) / np.maximum(trunk, 1e-3))
        fine = np.exp(-where(mask, self._small.distance, p) / np.float32(0.035 * self._vessels))
        fine = fine * np.float32(0.5)
        vessel = np.maximum(np.maximum(large, tree * np.float32(0.9)), fine)
        paint(canvas, 35, vessel * inside * mask)
        fissure = np.abs(z - 5 - 0.9 * (y - 5) - 6 * np.sin(x / 40))
        paint(canvas, -600, edge(0.9 - fissure, SOFT) * 0.8 * inside)

    def _airways(self, canvas: Floats, p: Points) -> None:
        tubes = [
            capsule(p, (0, 6, 170), (0, 14, 34), (8.5, 8.5)),
            capsule(p, (0, 14, 34), (-32, 14, 14), (7.5, 6.0)),
            capsule(p, (0, 14, 34), (38, 16, 8), (6.8, 5.5)),
            capsule(p, (-32, 14, 14), (-46, 20, -16), (5.0, 3.6)),
            capsule(p, (38, 16, 8), (50, 24, -20), (4.8, 3.6)),
            capsule(p, (-32, 14, 14), (-52, 6, 40), (4.2, 3.0)),
            capsule(p, (38, 16, 8), (54, 4, 34), (4.2, 3.0)),
        ]
        lumen = tubes[0]
        for tube in tubes[1:]:
            lumen = np.maximum(lumen, tube)
        paint(canvas, 10, edge(lumen + 1.8, SOFT))
        paint(canvas, -985, edge(lumen, 2.0))
