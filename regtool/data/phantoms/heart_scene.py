"""What a cardiac MR scanner sees around and inside a heart (balanced SSFP contrast)."""

from __future__ import annotations

import numpy as np

from regtool.data.phantoms.heart_motion import HeartShape
from regtool.data.phantoms.noise import Texture, Tubes, where
from regtool.data.phantoms.pair import Floats, Points
from regtool.data.phantoms.shapes import edge, ellipse, paint, smoothstep

BLOOD, FAT, MARROW, MYOCARDIUM = 1280.0, 1050.0, 520.0, 430.0
LIVER, MUSCLE, LUNG = 370.0, 270.0, 55.0


class Scene:
    """The signal and the labels of a chest, as functions of heart coordinates in mm."""

    def __init__(self, body: HeartShape, rng: np.random.Generator) -> None:
        self.body = body
        self._fine = Texture(rng, 2.6)
        self._grain = Texture(rng, 6.0)
        self._broad = Texture(rng, 38.0)
        self._vessels = Tubes(rng, 17.0, 0.020)
        self._papillary = (np.deg2rad(rng.uniform(-62, -40)), np.deg2rad(rng.uniform(88, 112)))
        self._fat_layer = rng.uniform(5.0, 10.0)
        self._pad = rng.uniform(10, 15)
        self._dome = rng.uniform(-6, 8)
        tilt = np.deg2rad(rng.uniform(-24, -6))
        self._tilt = (np.float32(np.cos(tilt)), np.float32(np.sin(tilt)))
        self._coil = rng.uniform(0.7, 1.1)

    def labels(self, material: Points) -> np.ndarray:
        """ACDC's labels, uint8, at material points."""
        x, y, s = material
        radius, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)
        inner, outer, depth = self.body.contours(angle, s)
        below = s < self._valve(x)
        labels = np.zeros(np.broadcast_shapes(radius.shape, s.shape), np.uint8)
        labels[(radius > outer) & (radius < outer + depth) & (depth > 2.5) & below] = 1
        labels[(radius <= outer) & below & (s > 0)] = 2
        labels[(radius <= inner) & below] = 3
        return labels

    def _valve(self, x: Floats) -> Floats:
        return np.float32(self.body.length) + np.float32(0.02) * x

    def image(self, points: Points, material: Points) -> Floats:
        """Signal at ``points`` (still: coils) showing the tissue of ``material`` points."""
        x, y, s = material
        shape = np.broadcast_shapes(x.shape, y.shape, s.shape)
        grain = self._grain(x, y, s)
        broad = self._broad(x, y, s)
        canvas = np.zeros(shape, np.float32)
        turned = (self._tilt[0] * x + self._tilt[1] * y, self._tilt[0] * y - self._tilt[1] * x, s)
        chest = self._chest(canvas, turned, grain, broad)
        self._liver(canvas, turned, chest, grain, broad)
        self._back(canvas, turned, grain)
        self._heart(canvas, material, grain, broad)
        return canvas * self._coils(points)

    def _coils(self, points: Points) -> Floats:
        x, y, s = points
        front = np.exp(-np.sqrt((x + 10) ** 2 + (y + 105) ** 2) / 75)
        back = np.exp(-np.sqrt((x - 15) ** 2 + (y - 150) ** 2) / 80)
        slow = 0.05 * np.sin(x / 62 + 0.7) * np.cos(y / 55) + 0.0006 * x
        return np.asarray(0.72 + self._coil * front + 0.75 * back + slow + 0 * s, np.float32)

    def _chest(self, canvas: Floats, p: Points, grain: Floats, broad: Floats) -> Floats:
        """Skin, fat, muscle, ribs and lungs; the depth below the inner chest wall comes back."""
        x, y, s = p
        skin = ellipse(x, y + 0.12 * s, (-4, 34), (163, 126), power=2.4) + 1.5 * broad
        paint(canvas, 220, edge(skin))
        paint(canvas, FAT + 60 * grain, edge(skin - 2.2))
        wall = skin - np.float32(self._fat_layer) - 2.5 * smoothstep(y, -40, 60) - 2.5 * broad
        paint(canvas, MUSCLE + 25 * grain, edge(wall))
        paint(canvas, FAT, edge(1.1 - np.abs(wall - 7.5 - broad)) * 0.6)
        turn = np.arctan2(y - 34, x + 4)
        along = np.arccos(np.clip(np.cos(11 * turn + 0.09 * s + 0.6 * broad), -1, 1)) * 11
        depth = wall - 12.5
        rib = (1 - np.sqrt(((depth + 1.5) / 5) ** 2 + (along / 13) ** 2)) * 5
        paint(canvas, 90, edge(rib))
        paint(canvas, MARROW + 50 * grain, edge(rib - 2.0))
        inside = depth - 6.5
        lung = edge(inside)
        paint(canvas, LUNG + 9 * grain + 8 * broad, lung)
        vessels = where(lung > 0.5, self._vessels, p)
        paint(canvas, 520, vessels * lung * np.float32(0.85))
        return inside

    def _liver(
        self, canvas: Floats, p: Points, chest: Floats, grain: Floats, broad: Floats
    ) -> None:
        """Liver below the right heart, stomach and spleen below the left, rising to the apex."""
        x, y, s = p
        low = 0.55 * (0.5 * self.body.length - s) + np.float32(self._dome)
        liver = np.minimum(ellipse(x, y, (-92, 62), (92, 62), 16) + low * 0.55 + 3 * broad, chest)
        paint(canvas, 150, edge(liver + 1.2))
        veins = where(liver > 0, self._vessels, p)
        paint(canvas, LIVER + 14 * grain + 12 * broad, edge(liver))
        paint(canvas, 640, edge(liver - 4) * veins)
        spleen = np.minimum(ellipse(x, y, (104, 92), (34, 46), -25) + low - 20 + 2 * broad, chest)
        paint(canvas, 430 + 14 * grain, edge(spleen))
        stomach = np.minimum(ellipse(x, y, (58, 84), (34, 26), 20) + low - 14 + 3 * broad, chest)
        paint(canvas, FAT * 0.8, edge(stomach + 3.0))
        paint(canvas, 330, edge(stomach))
        paint(canvas, 560 + 160 * grain, edge(stomach - 4) * smoothstep(y, 78, 84))

    def _back(self, canvas: Floats, p: Points, grain: Floats) -> None:
        """Mediastinum, aorta, oesophagus, spine and the muscles beside it."""
        x, y, s = p
        middle = ellipse(x, y, (-14, 88), (38, 34), power=2.5) + 0.4 * grain
        paint(canvas, FAT * 0.78 + 70 * grain, edge(middle))
        for side in (-1, 1):
            muscle = ellipse(x, y, (-18 + side * 36, 134), (33, 19), side * 14)
            paint(canvas, FAT * 0.8, edge(muscle + 2))
            paint(canvas, MUSCLE + 30 * grain, edge(muscle))
        arch = ellipse(x, y, (-18, 131), (9, 17))
        paint(canvas, 200, edge(arch))
        canal = ellipse(x, y, (-18, 122), (11, 8.5))
        bone = ellipse(x, y, (-18, 99), (22, 17), power=2.6)
        paint(canvas, 100, edge(bone))
        paint(canvas, MARROW + 45 * grain + 20 * np.cos(s / 4.5), edge(bone - 2.0))
        paint(canvas, 950, edge(canal))
        paint(canvas, 480, edge(ellipse(x, y, (-18, 122), (5.5, 4.2))))
        aorta = ellipse(x, y, (14 + 0.06 * s, 76), (12.0, 11.5))
        paint(canvas, 300, edge(aorta + 1.6))
        paint(canvas, BLOOD * 0.98 + 25 * grain, edge(aorta))
        gullet = ellipse(x, y, (-5, 68), (8, 5.5), -20)
        paint(canvas, MUSCLE * 1.3, edge(gullet))
        paint(canvas, 120, edge(gullet - 3.6))
        for cx, cy, r in ((-33, 79, 3.4), (-8, 82, 2.2)):
            paint(canvas, BLOOD * 0.8, edge(ellipse(x, y, (cx, cy), (r, r))))

    def _heart(self, canvas: Floats, p: Points, grain: Floats, broad: Floats) -> None:
        x, y, s = p
        radius, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)
        inner, outer, depth = self.body.contours(angle, s)
        present = smoothstep(s, -14, 2)
        near = radius < 95
        fine = where(np.broadcast_to(near, canvas.shape), self._fine, p)
        atrium = smoothstep(s - self._valve(x), -3, 3)
        rim = outer + depth
        self._fat(canvas, p, rim - radius, depth, present, grain, broad)
        free = smoothstep(depth, 1.5, 6)
        paint(canvas, MYOCARDIUM + 25 * grain, edge(rim + 3.4 - radius) * free)
        rough = 0.9 * fine * smoothstep(depth, 4, 16)
        pool = np.minimum(radius - outer - 0.6, rim - radius + rough)
        paint(canvas, BLOOD * 0.93 + 35 * broad + 28 * grain, edge(pool) * smoothstep(depth, 1, 4))
        outward = smoothstep(radius - outer, 0, 22) * (1 - 0.5 * smoothstep(s, 50, 80))
        strands = smoothstep(0.6 * (grain + fine) + 0.75 * outward, 1.15, 1.9) * edge(pool - 0.5)
        paint(canvas, MYOCARDIUM * 1.3, strands * 0.75 * (1 - atrium))
        muscle = edge(outer - radius) * smoothstep(s, -1, 1)
        paint(canvas, FAT * 0.9, muscle * atrium)
        paint(canvas, MYOCARDIUM + 16 * grain + 12 * fine, muscle * (1 - atrium))
        thin = (outer - 3.5) * atrium + inner * (1 - atrium)
        cavity = thin - radius
        mesh = 0.7 * np.clip(fine, -0.8, 2) + 0.8 * np.clip(grain, -1, 2)
        mesh = mesh * (1 - atrium) * smoothstep(inner, 4, 14)
        paint(canvas, BLOOD + 40 * broad + 30 * grain, edge(cavity - mesh) * smoothstep(s, 3, 6))
        self._papillaries(canvas, p, inner, grain)

    def _fat(
        self,
        canvas: Floats,
        p: Points,
        below: Floats,
        depth: Floats,
        present: Floats,
        grain: Floats,
        broad: Floats,
    ) -> None:
        """Fat between heart and sternum and in the grooves, within a thin dark pericardium."""
        x, y, s = p
        front = smoothstep(-y - 0.4 * x, 5, 55) * np.float32(self._pad) * (1 + 0.5 * broad)
        back = smoothstep(y - 0.7 * np.abs(x + 18), 0, 45) * 9
        groove = 4 * np.exp(-(((depth - 4) / 5) ** 2))
        layer = 1.5 + (front + back + groove + 1.2 * broad) * (0.3 + 0.7 * smoothstep(s, 0, 45))
        cover = edge(below + 3.4 + layer)
        paint(canvas, FAT * 0.85 + 80 * grain, cover * present)
        paint(canvas, 210, edge(0.9 - np.abs(below + 3.4 + layer)) * 0.8 * present)

    def _papillaries(self, canvas: Floats, p: Points, inner: Floats, grain: Floats) -> None:
        x, y, s = p
        height = s / np.float32(self.body.length)
        along = smoothstep(height, 0.22, 0.34) * (1 - smoothstep(height, 0.6, 0.72))
        if not along.any():
            return
        for which, angle in enumerate(self._papillary):
            c, n = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            u, v = x * c + y * n - np.float32(0.66 - 0.05 * which) * inner, y * c - x * n
            blob = (1 - np.sqrt((u / 6.4) ** 2 + (v / 4.2) ** 2)) * 4.2 + 0.8 * grain
            paint(canvas, MYOCARDIUM * 1.05, edge(blob) * along * (inner > 6))
