"""Windows, colour maps and colour bars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABEL_COLOURS = (
    "#56b4e9", "#ffa62b", "#3ddc97", "#f5e663", "#ff7ac6", "#ff6b57", "#b79cff", "#9be564",
    "#5ce1e6", "#ffd1a9", "#d0d0d0", "#c98bdb",
)  # fmt: skip
"""For lines on dark pictures; the first ones keep apart for colour-blind readers too."""
FOLD_COLOUR = "#c6ff00"
_RESIDUAL = ((150, 214, 255), (38, 118, 190), (0, 0, 0), (190, 92, 14), (255, 205, 130))
_SAMPLE = 400_000


@dataclass(frozen=True)
class Bar:
    """A colour bar: its map, CSS colours at equal steps, ticks as (position in 0..1, text)."""

    name: str
    colours: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    label: str

    @property
    def css(self) -> str:
        """The gradient for CSS."""
        return f"linear-gradient(to right, {', '.join(self.colours)})"


def sample(values: NDArray[Any]) -> NDArray[Any]:
    """Every n-th value of an array, flat, at most about 400,000."""
    flat = values.reshape(-1)
    step = max(1, flat.size // _SAMPLE)
    return flat[:: step + (step % 2 == 0 and step > 1)]  # odd: no beat with even row lengths


def window(values: NDArray[Any], tail: float = 0.5) -> tuple[float, float]:
    """Window levels: without ``tail`` percent at either end, or the range where these are equal."""
    some = sample(values).astype(np.float64)
    low, high = (float(v) for v in np.percentile(some, (tail, 100 - tail)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def unit(values: NDArray[Any], levels: tuple[float, float]) -> NDArray[np.float32]:
    """Windowed values, clipped to [0, 1]."""
    low, high = levels
    return np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)


def grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in [0, 1] as 8-bit grey."""
    return np.rint(values * 255).astype(np.uint8)


@lru_cache(maxsize=8)
def table(name: str) -> NDArray[np.uint8]:
    """256 colours of a matplotlib colour map, or of ``residual``, (256, 3).

    ``residual`` is black in the middle, so that what is left of a difference stands out; blue
    below, orange above, equally bright.
    """
    if name == "residual":
        places, stops = (0, 0.25, 0.5, 0.75, 1), np.asarray(_RESIDUAL, dtype=np.float64)
        ramp = [np.interp(np.linspace(0, 1, 256), places, stops[:, c]) for c in range(3)]
        return np.asarray(np.rint(np.stack(ramp, -1)), dtype=np.uint8)
    from matplotlib import colormaps

    colours = colormaps[name](np.linspace(0, 1, 256))[:, :3]
    return np.asarray(np.rint(colours * 255), dtype=np.uint8)


def coloured(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Values in [0, 1] through a colour map: (*S, 3)."""
    return table(name)[grey(np.clip(np.nan_to_num(values), 0, 1))]


def bar(name: str, ticks: list[tuple[float, str]], label: str) -> Bar:
    """The colour bar of a map; tick positions in 0..1."""
    rows = table(name)[np.linspace(0, 255, 13).astype(int)]
    return Bar(name, tuple("#{:02x}{:02x}{:02x}".format(*row) for row in rows), tuple(ticks), label)


def number(value: float) -> str:
    """A short figure with a true minus sign: three digits that count, no exponent if it can be."""
    size = abs(value)
    text = f"{value:.0f}" if size >= 99.5 else f"{value:.3g}"
    if 0 < size < 1e-3:
        text = f"{value:.1e}"
    return text.replace("-", "\N{MINUS SIGN}")


def nice(value: float, steps: tuple[float, ...] = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)) -> float:
    """The next round number at or above a positive value."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(s for s in steps if s * power >= value * (1 - 1e-9)) * power)
