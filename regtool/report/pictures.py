"""Rasters as data URIs, and overlays as SVG, ready for the template."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from regtool.report import lines
from regtool.report.panels import Overlay, Panel

LONGEST = 768
"""Pixels of a picture's longer side at most; larger ones are reduced."""
DIMMED = 0.55


@dataclass(frozen=True)
class Strokes:
    """One SVG path."""

    group: str
    d: str
    colour: str
    dashed: bool
    filled: bool


@dataclass(frozen=True)
class Picture:
    """A panel as the template needs it."""

    key: str
    title: str
    caption: str
    uri: str
    box: str
    strokes: tuple[Strokes, ...]
    bar: Any

    @property
    def weight(self) -> int:
        """Bytes in the page, nearly."""
        return len(self.uri) + sum(len(s.d) for s in self.strokes) + 1500


def picture(panel: Panel) -> Picture:
    """Encode a panel."""
    pixels = panel.pixels
    if panel.dim:
        pixels = np.rint(pixels * DIMMED).astype(np.uint8)
    height, width = pixels.shape[:2]
    box = f"0 0 {width * lines.SCALE} {height * lines.SCALE}"
    strokes = tuple(s for o in panel.overlays if (s := _strokes(o)).d)
    uri = data_uri(pixels, 70 if panel.dim else 86)
    return Picture(panel.key, panel.title, panel.caption, uri, box, strokes, panel.bar)


def data_uri(pixels: NDArray[np.uint8], quality: int = 86) -> str:
    """An 8-bit picture (rows, columns[, 3]) as a WebP (or PNG) data URI."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) > LONGEST:
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    kind = "webp" if features.check("webp") else "png"
    if kind == "webp":
        image.save(stream, "WEBP", quality=quality, method=2)
    else:
        image.save(stream, "PNG", optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _strokes(overlay: Overlay) -> Strokes:
    d = lines.svg_path(overlay.lines, overlay.closed)
    return Strokes(overlay.group, d, overlay.colour, overlay.dashed, overlay.filled)
