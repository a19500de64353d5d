"""Shape of a heart at end-diastole, and the motion that takes it to end-systole.

Heart coordinates in mm: x, y in the short-axis plane about the axis of the left ventricle (y to
the back), s along that axis from the tip of the apex (0) to the valve plane (``length``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regtool.data.phantoms.pair import Floats, Points
from regtool.data.phantoms.shapes import monotone, smoothstep, soft_max


@dataclass(frozen=True)
class HeartShape:
    """Sizes (mm), angles (radians) and motion of one heart; ``draw`` makes a plausible one."""

    cavity: float
    wall: float
    length: float
    rv_angle: float
    rv_depth: float
    oval: float
    oval_angle: float
    contraction: float
    rv_contraction: float
    descent: float
    twist: float
    shift: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> HeartShape:
        """A random healthy heart: ejection fraction about 55 to 65 %, 35 to 50 % thickening."""
        return cls(
            cavity=rng.uniform(23, 27.5),
            wall=rng.uniform(7.5, 9.5),
            length=rng.uniform(84, 94),
            rv_angle=np.deg2rad(rng.uniform(194, 216)),
            rv_depth=rng.uniform(22, 29),
            oval=rng.uniform(0.01, 0.05),
            oval_angle=rng.uniform(0, np.pi),
            contraction=rng.uniform(0.27, 0.33),
            rv_contraction=rng.uniform(0.33, 0.45),
            descent=rng.uniform(10, 14),
            twist=np.deg2rad(rng.uniform(7, 12)),
            shift=(rng.uniform(-3, 0), rng.uniform(-2, 1)),
        )

    def _profile(self, s: Floats, tip: float) -> Floats:
        widest = np.float32(0.66 * self.length)
        down = np.clip((widest - s) / (widest - np.float32(tip)), 0, 1)
        up = np.clip((s - widest) / (np.float32(self.length) - widest), 0, 1.5)
        return np.asarray(np.sqrt(1 - down * down) * (1 - 0.1 * up * up), np.float32)

    def contours(self, angle: Floats, s: Floats) -> tuple[Floats, Floats, Floats]:
        """Radii in mm at end-diastole: endocardium, epicardium, and depth of the right ventricle.

        The right ventricle lies between the epicardium and epicardium + depth.
        """
        oval = 1 + np.float32(self.oval) * np.cos(2 * (angle - np.float32(self.oval_angle)))
        inner = np.float32(self.cavity) * self._profile(s, self.wall) * oval
        outer = np.float32(self.cavity + self.wall) * self._profile(s, 0.0) * oval
        off = np.angle(np.exp(1j * (angle - self.rv_angle))).astype(np.float32)
        reach = np.where(off < 0, np.float32(1.35), np.float32(1.6))
        bump = np.maximum(np.cos(np.clip(off / reach, -1, 1) * np.float32(np.pi / 2)), 0) ** 1.15
        height = smoothstep(s, 4.0, 0.62 * self.length) ** 0.6
        return inner, outer, np.asarray(np.float32(self.rv_depth) * bump * height, np.float32)

    def to_diastole(self, points: Points, through_plane: bool = True) -> Points:
        """Where the tissue seen at ``points`` at end-systole was at end-diastole.

        A smooth map without folds: the base descends, the apex turns against the base, then every
        ray from the axis is stretched so that cavities contract and the wall thickens enough to
        keep its volume (incompressible muscle). The chest stays where it is.
        """
        x, y, s = points
        radius = np.sqrt(x * x + y * y)
        near = 1 - smoothstep(radius, 30.0, 95.0)
        x, y = x - np.float32(self.shift[0]) * near, y - np.float32(self.shift[1]) * near
        radius = np.sqrt(x * x + y * y) + np.float32(1e-6)
        near = 1 - smoothstep(radius, 45.0, 105.0)
        angle = np.arctan2(y, x)
        height = s / np.float32(self.length)
        angle = angle + np.float32(self.twist) * near * (np.float32(0.4) - np.clip(height, 0, 1.2))
        s = np.broadcast_to(s, np.broadcast_shapes(s.shape, radius.shape))
        if through_plane:
            s = s + np.float32(self.descent) * near * smoothstep(height, -0.35, 1.25)
        radius = self._stretch(radius, angle, s)
        return radius * np.cos(angle), radius * np.sin(angle), s

    def _stretch(self, radius: Floats, angle: Floats, s: Floats) -> Floats:
        inner, outer, depth = self.contours(angle, s)
        inner, outer = soft_max(inner, 3.0, 3.0), soft_max(outer, 9.0, 6.0)
        active = 1 - smoothstep(s, self.length, self.length + 30)
        inner_now = inner * (1 - np.float32(self.contraction) * active)
        longer = 1 + np.float32(self.descent / self.length) * active
        outer_now = np.sqrt(inner_now**2 + (outer**2 - inner**2) * longer)
        gap = depth + 5
        gap_now = depth * (1 - np.float32(self.rv_contraction) * active) + 5
        rim = np.float32(1.3) * (outer + gap) + 22
        knots = [np.zeros_like(inner), inner_now, outer_now, outer_now + gap_now, rim]
        return monotone(radius, knots, [knots[0], inner, outer, outer + gap, rim])
