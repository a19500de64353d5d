"""Applying transforms to images, label maps, series and landmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regtool.engine.chain import Chain, read_links
from regtool.engine.companions import outside
from regtool.engine.device import choose_device, limited_threads
from regtool.engine.links import parse
from regtool.engine.sides import wrong_side
from regtool.errors import GeometryError, InputError, UsageError
from regtool.imaging.destination import image_stem
from regtool.imaging.image_write import check_suffix
from regtool.imaging.points import POINT_SUFFIXES, check_points_suffix, read_points, write_points
from regtool.imaging.reading import read_image, read_labels
from regtool.imaging.resample import (
    Interpolation,
    covered,
    resample,
    result_type,
    transform_points,
)
from regtool.imaging.volume import Volume
from regtool.imaging.writing import Outputs
from regtool.record import is_record
from regtool.spatial.grid import Grid

_FEW_VALUES = 64
"""A linear interpolation of an image with fewer distinct whole numbers earns a warning."""


@dataclass(frozen=True)
class Applied:
    """What was written, what may be wrong with it, and how it was made."""

    path: Path
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def apply(
    subject: str | Path,
    transforms: Sequence[str],
    *,
    reference: str | Path | None = None,
    output: str | Path | None = None,
    interpolation: Interpolation = "linear",
    inverse: bool = False,
    fill: float = 0.0,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> Applied:
    """Apply transforms (``-t`` order of antsApplyTransforms) and write the result.

    Images, label maps, 4-D series and RGB images are resampled once, onto ``reference`` (an image
    file; by default the grid of the field or record). Landmarks (CSV with x, y, z in LPS mm, or
    .fcsv) are mapped from fixed to moving space, as antsApplyTransformsToPoints does; ``inverse``
    goes the other way. ``fill`` is the value beyond the image. Raises the errors of
    ``regtool.errors``, UsageError among them for a reference or an interpolation of landmarks, and
    for a ``fill`` that the image's type cannot hold.
    """
    points = str(subject).lower().endswith(POINT_SUFFIXES)
    where = choose_device(device)
    if points:
        _refuse_ignored(subject, reference, interpolation, fill)
    target = Path(output) if output is not None else _default_output(Path(subject), points)
    (check_points_suffix if points else check_suffix)(target)
    links = parse(transforms)
    inputs = [subject, *([reference] if reference else []), *(link.path for link in links)]
    outputs = Outputs({"result": target}, inputs=inputs, overwrite=overwrite)
    if points:
        chain = read_links(links, inverse)
        mistakes = wrong_side(subject, links, inverse)
        side = "moving" if inverse else "fixed"
        applied = _apply_to_points(subject, chain, side, outputs, target)
        return replace(applied, warnings=(*applied.warnings, *mistakes))
    reader = read_labels if interpolation == "label" else read_image
    volume = reader(subject, allow=("scalar", "rgb", "series", "vector"))
    with limited_threads(threads):
        chain = read_links(links, inverse)
        grid, like = _reference(reference, chain, volume)
        value = _checked_fill(fill, volume, interpolation)
        values = resample(volume, grid, chain.transforms, interpolation, value, where)
    warnings = [*volume.warnings, *chain.warnings, *wrong_side(subject, links, inverse, volume)]
    if interpolation in ("linear", "bspline") and _looks_like_labels(volume):
        warnings.append(
            f"{volume.name}: few distinct whole numbers, a label map? "
            f"{interpolation} interpolation invents values in between; use -n label"
        )
    if (values == fill).all() and not _reaches(volume, grid, chain):
        warnings.append(f"nothing of {volume.name} reaches the reference grid; all is {fill:g}")
    notes = chain.notes
    if reference is None and chain.reference is None:
        notes += (f"{volume.name}: the result has its own grid; -r IMAGE gives another",)
    with outputs:
        step = volume.header.time_step
        outputs.image("result", values, grid, like=like, kind=volume.kind, time_step=step)
    return Applied(target, tuple(warnings), notes)


def _refuse_ignored(
    subject: str | Path, reference: object, interpolation: str, fill: float
) -> None:
    asked = {"-r": reference is not None, "-n": interpolation != "linear", "--fill": fill != 0}
    given = next((option for option, on in asked.items() if on), None)
    if given is not None:
        raise UsageError(
            f"{subject}: landmarks have no grid and are not interpolated; leave out {given}"
        )


def _checked_fill(fill: float, volume: Volume, interpolation: Interpolation) -> float:
    """The value, if the result can hold it."""
    kind = result_type(volume, interpolation)
    if kind.kind not in "iu":
        if not math.isfinite(fill):
            raise UsageError(f"--fill {fill}: a finite number is needed")
    elif not (float(fill).is_integer() and np.iinfo(kind).min <= fill <= np.iinfo(kind).max):
        raise UsageError(f"--fill {fill:g}: the result is {kind}, which has no such value")
    return fill


def _default_output(subject: Path, points: bool) -> Path:
    if points:
        return Path(f"{subject.stem}_warped.csv")
    return Path(f"{image_stem(subject)}_warped.nii.gz")


def _apply_to_points(
    subject: str | Path, chain: Chain, side: str, outputs: Outputs, target: Path
) -> Applied:
    landmarks = read_points(subject)
    points = landmarks.points
    ndim = _dimension(chain) if chain.transforms else points.shape[1]
    if points.shape[1] < ndim:
        raise GeometryError(f"{subject}: {points.shape[1]} coordinates for a {ndim}-D transform")
    mapped = transform_points(points[:, :ndim], chain.transforms)
    if points.shape[1] > ndim:
        mapped = np.hstack([mapped, points[:, ndim:]])
    with outputs:
        write_points(outputs.file("result"), mapped, landmarks)
    warnings = list(chain.warnings)
    if chain.reference is not None:
        beyond = outside(points[:, :ndim], chain.reference, f"the {side} image")
        warnings += [f"{subject}: {beyond}"] if beyond else []
    return Applied(target, tuple(warnings), chain.notes)


def _dimension(chain: Chain) -> int:
    first = chain.transforms[0]
    return first[1].ndim if isinstance(first, tuple) else first.shape[0] - 1


def _reference(
    reference: str | Path | None, chain: Chain, volume: Volume
) -> tuple[Grid, Volume | None]:
    if reference is not None:
        if is_record(reference):
            raise InputError(f"-r {reference}: give the image that has the wanted grid")
        image = read_image(reference, allow=("scalar", "rgb", "series", "vector"))
        return image.grid, image
    if chain.reference is not None:
        return chain.reference, None
    if all(not isinstance(t, tuple) for t in chain.transforms):
        raise UsageError("-r REFERENCE is needed: the transforms say nothing about the output grid")
    return volume.grid, None


def _reaches(volume: Volume, grid: Grid, chain: Chain) -> bool:
    """Whether any voxel of the grid is read inside the image."""
    return bool(covered(volume.grid, grid, chain.transforms).any())


def _looks_like_labels(volume: Volume) -> bool:
    array = volume.array
    if volume.kind not in ("scalar", "series") or array.dtype.kind not in "iu":
        return False
    return len(np.unique(array.ravel()[:: max(1, array.size // 200_000)])) < _FEW_VALUES
