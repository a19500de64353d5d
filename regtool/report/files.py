"""From written records to what reports show: the files of a pair, the rows of a cohort."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging.gridded import on_grid
from regtool.imaging.reading import read_image, read_labels, read_mask
from regtool.imaging.resample import resample
from regtool.imaging.transforms import Transform, read_affine, read_field
from regtool.imaging.volume import Volume
from regtool.record import (
    AFFINE,
    FIELD,
    INVERSE,
    INVERSE_WARPED,
    LABELS,
    WARPED,
    check_unchanged,
    fill_of,
    input_path,
    read_record,
    recorded_output,
    records_below,
)
from regtool.report.values import at
from regtool.report.view import ExtraView, PairView
from regtool.spatial.grid import Grid

_FRAMES = 5
"""Frames of a series that are shown, the first and the last among them."""

_NO_EXTRA = {WARPED, FIELD, LABELS, INVERSE, INVERSE_WARPED}


def pair_view_from(
    record_path: str | Path,
    *,
    fixed: Volume | None = None,
    moving: Volume | None = None,
    fixed_labels: Volume | None = None,
    moving_labels: Volume | None = None,
    fixed_mask: Volume | None = None,
) -> PairView:
    """Read what a record lists and put it on the fixed grid.

    Inputs are read from the paths in the record (as given, or beside the record) unless they are
    handed over, as they must be when a registration got them in memory. Every file that is read
    must still have the hash that the record holds.
    Raises InputError when the record or a file is missing, unreadable or changed since.
    """
    record = read_record(record_path)
    fixed = fixed or read_image(_input(record_path, record, "fixed"))
    moving = moving or read_image(_input(record_path, record, "moving"))
    fixed_labels = fixed_labels or _companion(record_path, record, "fixed_labels", read_labels)
    moving_labels = moving_labels or _companion(record_path, record, "moving_labels", read_labels)
    fixed_mask = fixed_mask or _companion(record_path, record, "fixed_mask", read_mask)
    grid = fixed.grid
    field, field_grid = read_field(recorded_output(record_path, record, FIELD))
    if not field_grid.same_as(grid):
        raise InputError(f"{record_path}: its field does not lie on the grid of {fixed.name}")
    affine = read_affine(recorded_output(record_path, record, AFFINE), grid.ndim)
    chain: list[Transform] = [(field, grid), affine]
    warped_labels = None
    if moving_labels is not None:
        warped_labels = resample(moving_labels, grid, chain, "nearest")
    return PairView(
        grid=grid,
        fixed=fixed.array,
        moving=resample(moving, grid, default=fill_of(record)),
        warped=on_grid(read_image(recorded_output(record_path, record, WARPED)), grid, "linear"),
        field=field,
        affine=affine,
        record=record,
        fixed_labels=None if fixed_labels is None else on_grid(fixed_labels, grid),
        moving_labels=None if moving_labels is None else on_grid(moving_labels, grid),
        warped_labels=warped_labels,
        mask=None if fixed_mask is None else on_grid(fixed_mask, grid),
        extras=_extras(record_path, record, grid),
    )


def cohort_rows(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The records below a folder, one at a time, each with its own path as ``record_path``.

    In the order of their paths. A file that is named like a record and is none is left out, and so
    is what lies in hidden folders, where files wait until they are complete.
    """
    for path in records_below(folder):
        try:
            yield {**read_record(path), "record_path": str(path)}
        except InputError:
            continue


def images_of(record_path: str | Path) -> tuple[Volume, NDArray[Any], NDArray[Any] | None]:
    """The fixed image of a record, the warped one and, if written, its labels, for a thumbnail.

    The arrays are on the grid of the fixed image.

    Raises InputError as ``pair_view_from``.
    """
    record = read_record(record_path)
    fixed = read_image(_input(record_path, record, "fixed"))
    warped = on_grid(read_image(recorded_output(record_path, record, WARPED)), fixed.grid, "linear")
    labels = None
    if isinstance(at(record, "outputs", LABELS), Mapping):
        labels = on_grid(read_labels(recorded_output(record_path, record, LABELS)), fixed.grid)
    return fixed, warped, labels


def _input(record_path: str | Path, record: Mapping[str, Any], which: str) -> Path:
    """The image a record names, where it was or beside the record, with the hash it had."""
    path = input_path(record_path, record, which)
    if path is None:
        raise InputError(f"{record_path}: names no file for its {which} image")
    return check_unchanged(path, at(record, which, "sha256"), record_path)


def _companion(record_path: str | Path, record: Mapping[str, Any], which: str, reader: Any) -> Any:
    path = input_path(record_path, record, which)
    return None if path is None else reader(path)


def _extras(record_path: str | Path, record: Mapping[str, Any], grid: Grid) -> dict[str, ExtraView]:
    """The images and fields that a method gave beside its warp; of a series a few frames.

    The field of each frame is left out: its effect is what the frames show.
    """
    outputs = record.get("outputs")
    names = outputs if isinstance(outputs, Mapping) else {}
    images = [n for n in names if n not in _NO_EXTRA and str(n).endswith(".nii.gz")]
    found = {}
    for name in images:
        stem = str(name).removesuffix(".nii.gz")
        frame_of = re.fullmatch(r"(.+?)\d+Warp", stem)
        if frame_of is not None and f"{frame_of[1]}.nii.gz" in images:
            continue
        volume = read_image(
            recorded_output(record_path, record, name), ("scalar", "vector", "series")
        )
        values = np.asarray(volume.array)
        if volume.kind != "series":
            found[stem] = ExtraView(values, volume.grid)
            continue
        values = values.reshape(-1, *grid.shape)  # on the fixed grid; 2-D frames are (1, Y, X)
        count = len(values)
        for frame in np.unique(np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int)):
            found[f"{stem} {frame + 1} of {count}"] = ExtraView(values[frame], grid)
    return found
