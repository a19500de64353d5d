"""Painting with soft-edged shapes, and smooth monotone maps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from regtool.data.phantoms.pair import Floats


def edge(depth: Floats, width: float = 1.6) -> Floats:
    """Coverage in [0, 1] of a shape from the depth in mm below its surface (negative outside)."""
    return np.clip(depth * np.float32(1 / width) + np.float32(0.5), 0, 1)


def paint(canvas: Floats, value: Floats | float, coverage: Floats) -> None:
    """Lay ``value`` over ``canvas`` in place."""
    canvas += coverage * (np.asarray(value, np.float32) - canvas)


def ellipse(
    x: Floats,
    y: Floats,
    centre: tuple[Floats | float, Floats | float],
    radii: tuple[float, float],
    angle: float = 0.0,
    power: float = 2.0,
) -> Floats:
    """Approximate depth in mm below the edge of a (super)ellipse turned by ``angle`` degrees."""
    c, s = np.float32(np.cos(np.deg2rad(angle))), np.float32(np.sin(np.deg2rad(angle)))
    dx, dy = (p - np.asarray(m, np.float32) for p, m in zip((x, y), centre, strict=True))
    u, v = (c * dx + s * dy) / np.float32(radii[0]), (c * dy - s * dx) / np.float32(radii[1])
    if power == 2.0:
        q = np.sqrt(u * u + v * v)
    else:
        q = (np.abs(u) ** np.float32(power) + np.abs(v) ** np.float32(power)) ** np.float32(
            1 / power
        )
    return np.asarray((1 - q) * np.float32(min(radii)), np.float32)


def ellipsoid(
    points: tuple[Floats, Floats, Floats],
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
) -> Floats:
    """Approximate depth in mm below the surface of an axis-aligned ellipsoid."""
    q = sum(
        ((p - np.float32(c)) / np.float32(r)) ** 2
        for p, c, r in zip(points, centre, radii, strict=True)
    )
    return np.asarray((1 - np.sqrt(q)) * np.float32(min(radii)), np.float32)


def capsule(
    points: tuple[Floats, Floats, Floats],
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radii: tuple[float, float],
) -> Floats:
    """Depth in mm below the surface of a rod whose radius changes from start to end."""
    a = np.asarray(start, np.float32)
    along = np.asarray(end, np.float32) - a
    d = [p - c for p, c in zip(points, a, strict=True)]
    t = sum(v * w for v, w in zip(d, along, strict=True)) / np.float32(along @ along)
    t = np.clip(t, 0, 1)
    apart = sum((v - t * w) ** 2 for v, w in zip(d, along, strict=True))
    return np.asarray(radii[0] + t * np.float32(radii[1] - radii[0]) - np.sqrt(apart), np.float32)


def smoothstep(value: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, with continuous second derivative between."""
    t = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(t * t * t * (t * (t * 6 - 15) + 10), np.float32)


def soft_max(a: Floats, b: Floats | float, width: float) -> Floats:
    """The larger of two, with a rounded corner of ``width``."""
    d = a - b
    return np.asarray(0.5 * (a + b + np.sqrt(d * d + np.float32(width * width))), np.float32)


def monotone(value: Floats, knots: list[Floats], images: list[Floats]) -> Floats:
    """Smooth increasing map that takes each knot to its image and is the identity beyond the last.

    Monotone cubic Hermite interpolation (Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5, 1984:
    harmonic mean of neighbouring slopes), for knots that differ from point to point. ``knots`` and
    ``images`` are increasing lists of arrays that broadcast against ``value``; the last pair must
    be equal.
    """
    steps = [b - a for a, b in pairwise(knots)]
    secants = [(b - a) / h for a, b, h in zip(images, images[1:], steps, strict=False)]
    slopes = [secants[0]]
    slopes += [2 * a * b / (a + b) for a, b in pairwise(secants)]
    slopes.append(np.ones_like(secants[-1]))
    result = value
    for i, h in enumerate(steps):
        t = np.clip((value - knots[i]) / h, 0, 1)
        r = 1 - t
        piece = (
            images[i] * (r * r * (1 + 2 * t))
            + images[i + 1] * (t * t * (3 - 2 * t))
            + h * (slopes[i] * (t * r * r) - slopes[i + 1] * (t * t * r))
        )
        below = value < knots[i + 1]
        result = np.where(below & (value >= knots[i]), piece, result)
    return np.asarray(result, np.float32)
