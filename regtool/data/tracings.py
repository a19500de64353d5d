"""Outlines of the left ventricle in EchoNet-Dynamic's ``VolumeTracings.csv``, and their masks."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging.volume import Volume
from regtool.paths import expanded

COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
Outline = NDArray[np.int64]
"""Corners of a polygon (N, 2): x to the right and y down, at the centres of pixels."""


@dataclass(frozen=True)
class Tracings:
    """The outlines of a table, by name of the video without its ending, and by frame from 0."""

    path: Path
    outlines: Mapping[str, Mapping[int, Outline]]

    def extremes(self, video: str) -> tuple[int, int] | None:
        """Frames of the largest and the smallest outline (end-diastole, end-systole).

        None for a video with fewer than two traced frames. The table is not relied on to list
        the smaller outline first, as the authors' loader does.
        """
        found = self.outlines.get(video, {})
        if len(found) < 2:
            return None
        ordered = sorted(found, key=lambda frame: (area(found[frame]), frame))
        return ordered[-1], ordered[0]

    def mask(self, video: str, frame: int, image: Volume) -> Volume:
        """The filled outline, 1 inside and on it, on the grid of the 2-D ``image``.

        Raises InputError for a frame that is not traced.
        """
        outline = self.outlines.get(video, {}).get(frame)
        if outline is None:
            raise InputError(f"{self.path}: frame {frame} of {video} is not traced")
        return Volume(fill(outline, image.grid.shape), image.grid, path=self.path)


def read_tracings(path: str | Path) -> Tracings:
    """Read ``VolumeTracings.csv``: columns FileName, X1, Y1, X2, Y2, Frame.

    Each row is a chord across the ventricle; the first row of a frame is its long axis, which is
    no part of the outline. The others run from apex to base or back, so that all first ends, then
    all second ends in reverse, are the outline; ends are rounded to whole pixels. This is the
    reading of the authors' code (echonet/datasets/echo.py).
    The two tables last read are kept in memory. Raises InputError naming the line.
    """
    table = expanded(path)
    try:
        status = table.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{table}: cannot be read: {reason}") from None
    return _read(table, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2)
def _read(table: Path, _size: int, _time: int) -> Tracings:
    chords: dict[str, dict[int, list[tuple[float, ...]]]] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            order = _order(table, next(reader, []))
            for row in reader:
                if row:
                    name, frame, ends = _row(table, reader.line_num, row, order)
                    chords.setdefault(name, {}).setdefault(frame, []).append(ends)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not readable as a CSV table ({error})") from None
    if not chords:
        raise InputError(f"{table}: no tracings in this table")
    outlines = {
        name: {frame: _outline(table, name, frame, rows) for frame, rows in frames.items()}
        for name, frames in chords.items()
    }
    return Tracings(table, outlines)


def _order(table: Path, header: list[str]) -> list[int]:
    names = [name.strip() for name in header]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InputError(
            f"{table}: no column {', '.join(missing)} in its first line; EchoNet-Dynamic has "
            f"{','.join(COLUMNS)}"
        )
    return [names.index(name) for name in COLUMNS]


def _row(
    table: Path, line: int, row: list[str], order: list[int]
) -> tuple[str, int, tuple[float, ...]]:
    try:
        name, *numbers, frame = (row[i] for i in order)
        ends = tuple(map(float, numbers))
        if int(frame) < 0 or not all(map(math.isfinite, ends)):
            raise ValueError
        return PurePosixPath(name.strip()).stem, int(frame), ends
    except (ValueError, IndexError):
        raise InputError(
            f"{table} line {line}: expected {','.join(COLUMNS)}, found {','.join(row)[:80]!r}"
        ) from None


def _outline(table: Path, name: str, frame: int, rows: list[tuple[float, ...]]) -> Outline:
    if len(rows) < 3:
        raise InputError(
            f"{table}: frame {frame} of {name} has {len(rows)} chords; an outline needs the long "
            "axis and two more"
        )
    ends = np.rint(np.asarray(rows[1:])).clip(-(2**20), 2**20).astype(np.int64)
    return np.concatenate([ends[:, :2], ends[::-1, 2:]])


def area(outline: Outline) -> float:
    """Area within a polygon (N, 2), by the shoelace formula, in square pixels."""
    x, y = outline[:, 0], outline[:, 1]
    return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2


def fill(outline: Outline, shape: tuple[int, ...]) -> NDArray[Any]:
    """A mask of ``shape`` (height, width), uint8: pixels whose centre is in the polygon or on it.

    Inside is what a ray leaves an odd number of times (even-odd rule); the parts of the polygon
    beyond the image are cut off. The arithmetic is exact, as corners are whole numbers.
    """
    height, width = shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    inside, border = np.zeros((2, height, width), bool)
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, 0), strict=True):
        low, high = min(y1, y2), max(y1, y2)
        band = slice(max(int(low), 0), max(int(high) + 1, 0))
        y = rows[band]
        # Positive to the left of the upward edge; zero on the line through it.
        side = ((x2 - x1) * (y - y1) - (columns - x1) * (y2 - y1)) * (1 if y2 > y1 else -1)
        within = (columns >= min(x1, x2)) & (columns <= max(x1, x2))
        border[band] |= (side == 0) & within
        inside[band] ^= (side > 0) & (y >= low) & (y < high)
    return (inside | border).astype(np.uint8)
