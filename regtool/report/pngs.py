"""The pictures of a report as PNG files, one each, for slides and papers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.report import colour
from regtool.report.panels import Panel, panels
from regtool.report.pictures import DIMMED
from regtool.report.planes import Plane
from regtool.report.scene import Scene, zoom_of

_KEYS = ("fixed", "moving", "warped", "before", "after", "checkerboard", "mesh", "field",
         "jacobian")  # fmt: skip
_INCHES, _TALLEST, _DPI = 4.0, 6.0, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.5, 0.8, 0.35, 0.85
"""Inches: the picture's width, its height at most, and the margins."""


def names(scene: Scene, shown: Sequence[tuple[Plane, int]]) -> list[str]:
    """The file names of all pictures: ``axial_007_jacobian.png`` and so on, slices from 1."""
    keys = [*_KEYS, *(f"extra-{name}" for name in scene.extras)]
    return [file_name(plane, index, key) for plane, index in shown for key in keys]


def file_name(plane: Plane, index: int, key: str) -> str:
    """The name of one picture; only letters, digits, dots and dashes of a key are kept."""
    number = "" if plane.axis is None else f"_{index + 1:03d}"
    return f"{plane.name.lower()}{number}_{re.sub(r'[^A-Za-z0-9.-]+', '-', key)}.png"


def write_png(scene: Scene, plane: Plane, index: int, place: Callable[[str], Path]) -> None:
    """Draw the pictures of one slice; ``place`` gives the path for a file name."""
    for panel in panels(scene, plane, index):
        figure = _figure(scene, plane, index, panel)
        path = place(file_name(plane, index, panel.key))
        figure.savefig(path, dpi=_DPI, format="png", pil_kwargs={"compress_level": 3})


def _figure(scene: Scene, plane: Plane, index: int, panel: Panel) -> Any:
    """A matplotlib figure of its own, without pyplot's global state, laid out in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    zoom = zoom_of(plane, scene.box)
    height, width = plane.extent
    left, top, right, bottom = 0.0, 0.0, width, height
    if zoom.worth:
        left, top = zoom.x * width, zoom.y * height
        right, bottom = left + zoom.w * width, top + zoom.h * height
    across = _INCHES
    along = across * (bottom - top) / (right - left)
    if along > _TALLEST:
        across, along = across * _TALLEST / along, _TALLEST
    full = across + _LEFT + _RIGHT, along + _TOP + _BOTTOM
    figure = Figure(figsize=full, dpi=_DPI)
    FigureCanvasAgg(figure)
    place = _LEFT / full[0], _BOTTOM / full[1], across / full[0], along / full[1]
    axes = figure.add_axes(place)
    raster = panel.pixels * DIMMED / 255 if panel.dim else panel.pixels / 255
    axes.imshow(raster, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0),
                interpolation="bilinear")  # fmt: skip
    _add_lines(axes, panel, np.asarray([plane.spacing[1], plane.spacing[0]]))
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_xlabel("mm", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=7)
    where = "" if plane.axis is None else f" – {plane.name}, slice {index + 1} of {plane.count}"
    # parse_math: a name may hold a dollar sign
    axes.set_title(panel.title + where, fontsize=10, parse_math=False)
    caption = "\n".join(textwrap.wrap(panel.caption, max(30, int(full[0] * 15))))
    figure.text(0.5, 0.08 / full[1], caption, ha="center", va="bottom", fontsize=7.5,
                parse_math=False)  # fmt: skip
    _add_letters(axes, plane)
    if panel.bar is not None:
        at = (_LEFT + across + 0.1) / full[0], place[1], 0.12 / full[0], place[3]
        _add_bar(figure, figure.add_axes(at), panel)
    return figure


def _add_lines(axes: Any, panel: Panel, pixel: NDArray[np.float64]) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    for overlay in panel.overlays:
        points = [line * pixel for line in overlay.lines]
        width = 0.7 if overlay.group in ("mesh", "arrow") else 1.2
        style = "dashed" if overlay.dashed else "solid"
        drawn: Any = (
            PolyCollection(points, facecolors=overlay.colour, edgecolors="black", linewidths=0.3)
            if overlay.filled
            else LineCollection(points, colors=overlay.colour, linewidths=width, linestyles=style)
        )
        axes.add_collection(drawn, autolim=False)


def _add_letters(axes: Any, plane: Plane) -> None:
    top, right, bottom, left = plane.letters
    places = ((0.5, 0.97, top), (0.97, 0.5, right), (0.5, 0.03, bottom), (0.03, 0.5, left))
    box = {"facecolor": "black", "alpha": 0.5, "pad": 1.5, "lw": 0}
    for x, y, letter in places:
        if letter:
            axes.text(x, y, letter, transform=axes.transAxes, ha="center", va="center",
                      color="white", fontsize=8, bbox=box)  # fmt: skip


def _add_bar(figure: Any, axes: Any, panel: Panel) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    assert panel.bar is not None
    colours = ListedColormap(colour.table(panel.bar.name) / 255)
    bar = figure.colorbar(ScalarMappable(cmap=colours), cax=axes)
    bar.set_ticks([at for at, _ in panel.bar.ticks], labels=[t for _, t in panel.bar.ticks])
    bar.ax.tick_params(labelsize=7)
