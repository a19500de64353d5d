"""Families of breathing motions: from where tissue is to where it was, in millimetres.

A motion is a function of position, ``motion(points, amplitude)``, giving the displacement (x, y, z)
in LPS mm of points at the fixed phase towards the moving one. With a positive amplitude the fixed
image is the expiration: points move down. With a negative one they move up.

``diaphragm`` and ``sliding`` are for training; ``general`` is unlike both, for tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regtool.data.phantoms.lung_anatomy import Anatomy, Lung
from regtool.data.phantoms.pair import Floats, Points
from regtool.data.phantoms.shapes import smoothstep

Motion = Callable[[Points, float], Points]
Family = Callable[[Anatomy, np.random.Generator], Motion]


def diaphragm(anatomy: Anatomy, rng: np.random.Generator) -> Motion:
    """Two domes push the lungs, less towards the apex and the chest wall; all of it smooth.

    The front of the chest follows by a few millimetres.
    """
    domes = [_Dome(lung, rng) for lung in (anatomy.right, anatomy.left)]
    fade = _Fade(anatomy, rng)
    front = _Front(anatomy, rng)
    lean = rng.uniform(-0.12, 0.12)
    out, deep = rng.uniform(-26, -14), rng.uniform(38, 60)

    def motion(p: Points, amplitude: float) -> Points:
        hold = smoothstep(anatomy.wall.depth(p), out, deep)
        push = np.float32(amplitude) * fade(p) * hold * (domes[0](p) + domes[1](p))
        return np.zeros_like(push), np.float32(lean) * push + amplitude * front(p), -push

    return motion


def sliding(anatomy: Anatomy, rng: np.random.Generator) -> Motion:
    """The lungs slide along the ribs: at the pleura the motion is tangential and jumps to zero.

    The jump is spread over ``slip`` mm (5 to 9), so that the map stays smooth and without folds;
    the spine holds its surroundings. Left and right move by different amounts.
    """
    fade = _Fade(anatomy, rng)
    front = _Front(anatomy, rng)
    slip = rng.uniform(5, 9)
    unequal = rng.uniform(-0.25, 0.25)
    back = rng.uniform(-0.25, 0.25)
    held = rng.uniform(26, 40)

    def motion(p: Points, amplitude: float) -> Points:
        x, y, _ = p
        depth = anatomy.wall.depth(p)
        sx, sy = anatomy.spine
        from_spine = ((x - sx) / np.float32(held)) ** 2 + ((y - sy) / np.float32(held)) ** 2
        free = 1 - np.float32(0.95) * np.exp(-from_spine)
        side = 1 + np.float32(unequal) * np.tanh((x - sx) / 30)
        push = np.float32(amplitude) * fade(p) * free * side
        push = push * smoothstep(depth, -slip / 2, slip / 2)
        n = anatomy.wall.normal(p)
        near = 1 - smoothstep(depth, 18, 60)
        along = (np.float32(back) * n[1] - n[2]) * near
        return (
            -push * along * n[0],
            push * (np.float32(back) - along * n[1]) + amplitude * front(p),
            push * (-1 - along * n[2]),
        )

    return motion


def general(anatomy: Anatomy, rng: np.random.Generator) -> Motion:
    """The flow of a random smooth velocity of many scales: a diffeomorphism like neither other.

    To waves of 90 to 280 mm in all directions come an up-and-down motion that differs between left
    and right, and the chest wall that rises to the front and, less, to the sides. The flow of unit
    time is taken in ``STEPS`` Euler steps; that composition is the map.
    """
    count = 24
    length = np.exp(rng.uniform(np.log(90), np.log(280), count))
    turn = rng.standard_normal((count, 3))
    wave = (2 * np.pi / length / np.linalg.norm(turn, axis=1))[:, None] * turn
    weight = rng.standard_normal((3, count)) * length / 280
    weight *= 0.75 * np.sqrt(2 / (weight**2).sum(1, keepdims=True))
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    waves, weights, phases = (v.astype(np.float32) for v in (wave, weight, phase))
    right, left = rng.permutation([rng.uniform(0.9, 1.3), rng.uniform(0.2, 0.7)])
    fade = _Fade(anatomy, rng)
    rise, spread = rng.uniform(0.4, 0.9), rng.uniform(0.0, 0.3)
    sx, sy = anatomy.spine
    wide = abs(anatomy.left.centre[0] - anatomy.right.centre[0])

    def velocity(p: Floats) -> Floats:
        v = weights @ np.cos(waves @ p + phases)
        aside = np.tanh((p[0] - np.float32(sx)) / np.float32(0.5 * wide))
        forward = np.clip((np.float32(sy) - p[1]) / 150, 0, 2)
        v[0] += np.float32(spread) * aside
        v[1] -= np.float32(rise) * forward
        v[2] -= (
            fade((p[0], p[1], p[2])) * np.float32(0.5) * ((right + left) + (left - right) * aside)
        )
        return np.asarray(v, np.float32)

    def motion(p: Points, amplitude: float) -> Points:
        start = np.stack(np.broadcast_arrays(*p)).astype(np.float32)
        shape = start.shape
        at = start = start.reshape(3, -1)
        for _ in range(STEPS):
            at = at + np.float32(amplitude / STEPS) * velocity(at)
        moved = (at - start).reshape(shape)
        return moved[0], moved[1], moved[2]

    return motion


STEPS = 8

FAMILIES: dict[str, Family] = {"diaphragm": diaphragm, "sliding": sliding, "general": general}


class _Dome:
    """How far the diaphragm below one lung moves: most in the middle, more at the back."""

    def __init__(self, lung: Lung, rng: np.random.Generator) -> None:
        (cx, cy), (rx, ry) = lung.centre, lung.half
        self._centre = cx + rng.uniform(-0.1, 0.1) * rx, cy + rng.uniform(-0.1, 0.35) * ry
        self._radii = rng.uniform(1.1, 1.6) * rx, rng.uniform(0.9, 1.4) * ry
        self._height = np.float32(rng.uniform(0.75, 1.0))

    def __call__(self, p: Points) -> Floats:
        u, v = (
            (q - np.float32(c)) / np.float32(r)
            for q, c, r in zip(p[:2], self._centre, self._radii, strict=True)
        )
        return np.asarray(self._height * np.exp(-u * u - v * v), np.float32)


class _Fade:
    """1 at the diaphragm and below, falling to 0 about the apex."""

    def __init__(self, anatomy: Anatomy, rng: np.random.Generator) -> None:
        tall = anatomy.apex - anatomy.base
        self._low = anatomy.base - rng.uniform(0.0, 0.35) * tall
        self._high = anatomy.apex + rng.uniform(-0.05, 0.25) * tall

    def __call__(self, p: Points) -> Floats:
        t = np.clip((p[2] - np.float32(self._low)) / np.float32(self._high - self._low), 0, 1)
        return np.asarray(1 - t * t * (3 - 2 * t), np.float32)


class _Front:
    """Forward motion of the front of the chest for an amplitude of one; negative is forward."""

    def __init__(self, anatomy: Anatomy, rng: np.random.Generator) -> None:
        lungs = anatomy.right, anatomy.left
        self._foremost = min(lung.centre[1] - lung.half[1] for lung in lungs)
        self._spine = anatomy.spine[1]
        self._base, self._tall = anatomy.base, anatomy.apex - anatomy.base
        self._size = np.float32(rng.uniform(0.03, 0.18))

    def __call__(self, p: Points) -> Floats:
        ahead = smoothstep(self._spine - p[1], 0, self._spine - self._foremost + 30)
        level = smoothstep(p[2], self._base - self._tall, self._base + 0.4 * self._tall)
        return -self._size * ahead * level
