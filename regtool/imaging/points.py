"""Landmark files: CSV as ANTs reads it, and Slicer's .fcsv; always LPS mm in memory."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError, UsageError
from regtool.imaging.reading import check_file

POINT_SUFFIXES = (".csv", ".fcsv", ".txt")
_AXES = ("x", "y", "z")
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


@dataclass(frozen=True)
class Landmarks:
    """Landmarks: ``points`` (N, ndim) in LPS mm, with all columns of the file for writing back.

    ``columns`` are the names of the file's columns and ``rows`` its cells as text; both are empty
    for landmarks made in memory.
    """

    points: NDArray[np.float64]
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The ``label`` column, or the running number from 1 where there is none."""
        if "label" in self.columns:
            at = self.columns.index("label")
            return tuple(row[at] for row in self.rows)
        return tuple(str(number + 1) for number in range(len(self.points)))


def read_points(path: str | Path, ndim: int | None = None) -> Landmarks:
    """Read landmarks in LPS mm from a CSV with columns x,y[,z] or from a Slicer .fcsv.

    ``ndim`` 2 ignores a z column. An .fcsv in RAS is turned to LPS. Lines that begin with # are
    comments as long as nothing else has come.
    Raises InputError, naming file and line, when a column or number is missing, or all landmarks.
    """
    file = check_file(path)
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # and at nothing rarer
    except UnicodeDecodeError:
        raise InputError(f"{file}: not a text file; landmarks are CSV with x,y,z in mm") from None
    fiducials = file.suffix.lower() == ".fcsv"
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    comments = list(takewhile(lambda row: row[1].startswith("#"), numbered))
    numbered = numbered[len(comments) :]
    header, sign = _fcsv_header([line for _, line in comments]) if fiducials else (None, 1.0)
    if header is None and numbered:
        header, numbered = numbered[0][1], numbered[1:]
    if header is None:
        raise InputError(f"{file}: no landmarks in the file")
    delimiter = next((d for d in ",;\t" if d in header), ",")
    columns = tuple(name.strip().strip('"').lower() for name in header.split(delimiter))
    axes = _AXES[: ndim or (3 if "z" in columns else 2)]
    missing = [axis for axis in axes if axis not in columns]
    if missing:
        raise InputError(
            f"{file}: no column {', '.join(missing)}; the first line must name the columns x,y,z "
            "(LPS mm, as antsApplyTransformsToPoints)"
        )
    if not numbered:
        raise InputError(f"{file}: no landmarks in the file, only the names of its columns")
    rows = tuple(_cells(file, number, line, delimiter, columns) for number, line in numbered)
    points = np.empty((len(rows), len(axes)))
    for i, ((number, _), row) in enumerate(zip(numbered, rows, strict=True)):
        points[i] = [_number(file, number, row[columns.index(axis)]) for axis in axes]
    points[:, :2] *= sign
    return Landmarks(points, columns, rows)


def check_points_suffix(path: str | Path) -> None:
    """Raise UsageError unless the name ends as that of a landmark file."""
    if not str(path).lower().endswith(POINT_SUFFIXES):
        raise UsageError(
            f"{path}: landmarks are written as {', '.join(POINT_SUFFIXES)}; choose such a name"
        )


def write_points(
    path: str | Path, points: NDArray[np.float64], like: Landmarks | None = None
) -> None:
    """Write landmarks (N, ndim), LPS mm, as CSV, or as Slicer .fcsv by suffix.

    Other columns of ``like`` (labels, comments) are kept.
    """
    file = Path(path)
    columns = list(like.columns) if like is not None and like.columns else []
    if file.suffix.lower() == ".fcsv":
        _write_fcsv(file, points, like)
        return
    if not columns:
        columns = list(_AXES[: points.shape[1]])
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for i, point in enumerate(points):
            row = list(like.rows[i]) if like is not None and like.rows else [""] * len(columns)
            for axis, value in zip(_AXES, point, strict=False):
                row[columns.index(axis)] = repr(float(value))
            writer.writerow(row)


def _fcsv_header(lines: Sequence[str]) -> tuple[str, float]:
    """The column names, and -1 when the coordinates are RAS."""
    columns, sign = _FCSV_COLUMNS, -1.0
    for line in lines:
        if not line.startswith("#") or "=" not in line:
            continue
        name, value = (part.strip() for part in line[1:].split("=", 1))
        if name == "CoordinateSystem":
            sign = 1.0 if value in ("LPS", "1") else -1.0
        elif name == "columns":
            columns = value
    return columns, sign


def _cells(
    file: Path, number: int, line: str, delimiter: str, columns: tuple[str, ...]
) -> tuple[str, ...]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{file}, line {number}: not readable as CSV ({error})") from None
    if len(cells) > len(columns):
        raise InputError(f"{file}, line {number}: {len(cells)} values for {len(columns)} columns")
    return tuple(cell.strip() for cell in cells) + ("",) * (len(columns) - len(cells))


def _number(file: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{file}, line {number}: '{text}' is not a coordinate in mm")
    return value


def _write_fcsv(file: Path, points: NDArray[np.float64], like: Landmarks | None) -> None:
    names = (like or Landmarks(points)).names
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n")
        stream.write(f"# columns = {_FCSV_COLUMNS}\n")
        writer = csv.writer(stream, lineterminator="\n")
        for number, (point, name) in enumerate(zip(points, names, strict=True), 1):
            x, y, z = (*(repr(float(v)) for v in point), "0")[:3]
            writer.writerow([number, x, y, z, 0, 0, 0, 1, 1, 1, 0, name, "", ""])
