"""Frames of a generated series against the real ones in between."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from regtool.errors import GeometryError, InputError, UsageError
from regtool.imaging.reading import read_image
from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.metrics.similarity import nmse, psnr
from regtool.metrics.statistics import summarise

SCHEMA = 1
TRAJECTORY = "Trajectory.nii.gz"
"""The output of a record that holds a generated series."""


def compare_series(
    generated: str | Path, real: str | Path, frames: tuple[int, int] | None = None
) -> dict[str, Any]:
    """PSNR and NMSE of each frame of a generated series against the real frame of its time.

    Both are series (4-D NIfTI, or a video). ``frames``: first and last real frame, counted from 0
    and both included, which belong to the first and last generated frame; the last may come before
    the first, as when the heart is followed backwards. By default all. Generated frames are spaced
    evenly in time (DiffuseMorph's eta, METHODS 3.5); where the numbers of frames differ, each real
    frame is compared with the generated frame nearest to it in time. The ends are the moving and
    the fixed image, so ``summary`` counts the frames in between only. PSNR takes the range of all
    the real frames chosen as its range.
    Raises InputError and UsageError in one line, GeometryError for images that do not overlap.
    """
    ours, theirs = (_read(path) for path in (generated, real))
    chosen = _chosen(theirs, frames)
    notes = list(ours.warnings + theirs.warnings)
    values = ours.array
    if ours.ndim != theirs.ndim:
        raise GeometryError(f"{generated} is {ours.ndim}-D in space and {real} {theirs.ndim}-D")
    if not ours.grid.same_as(theirs.grid):
        notes.append(f"{generated}: not on the grid of {real}; resampled onto it, linearly")
        values = resample(ours, theirs.grid)
    count, total = ours.frames, len(chosen)
    if count != total:
        notes.append(
            f"{count} generated frames for {total} real ones: each real frame is compared with the "
            "generated one nearest in time"
        )
    span = float(np.ptp(theirs.array[chosen]))
    rows = []
    for number, frame in enumerate(chosen):
        match = int(number * (count - 1) / (total - 1) + 0.5)
        one, other = theirs.array[frame], values[match]
        scores = {"psnr": psnr(one, other, data_range=span), "nmse": nmse(one, other)}
        rows.append({"real": frame, "generated": match, **scores})
    between = rows[1:-1]
    found = {key: summarise(row[key] for row in between) for key in ("psnr", "nmse")}
    return {
        "schema": SCHEMA,
        "kind": "series evaluation",
        "generated": str(generated),
        "real": str(real),
        "range": span,
        "frames": rows,
        "summary": {key: value.as_dict() for key, value in found.items() if value is not None},
        "notes": notes,
    }


def parse_frames(text: str | None) -> tuple[int, int] | None:
    """``FIRST:LAST`` as two frame numbers; raises UsageError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*", text)
    if found is None:
        raise UsageError(f"--frame-range {text}: write FIRST:LAST, two frames counted from 0")
    return int(found[1]), int(found[2])


def _read(path: str | Path) -> Volume:
    volume = read_image(path, ("series",))
    if volume.frames < 2:
        raise InputError(f"{path}: one frame; a series is needed")
    return volume


def _chosen(real: Volume, frames: tuple[int, int] | None) -> list[int]:
    first, last = frames if frames is not None else (0, real.frames - 1)
    if max(first, last) >= real.frames:
        raise InputError(f"{real.name}: has frames 0 to {real.frames - 1}, not {first}:{last}")
    if abs(first - last) < 2:
        raise UsageError(f"--frame-range {first}:{last}: no frame in between to compare")
    return list(range(first, last + 1) if last > first else range(first, last - 1, -1))
