"""The Jacobian determinant of a registration: a map and its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regtool.engine.device import limited_threads
from regtool.errors import GeometryError, InputError
from regtool.imaging.gridded import read_mask_on
from regtool.imaging.image_write import check_suffix
from regtool.imaging.reading import check_file
from regtool.imaging.transforms import TRANSFORM_SUFFIXES, read_affine, read_field
from regtool.imaging.writing import Outputs
from regtool.paths import is_file
from regtool.record import AFFINE, COMPOSITE, FIELD, SUFFIX, is_record, read_record, recorded_output
from regtool.spatial.jacobian import field_jacobian, folds

FLOOR = 1e-3
"""Determinants are floored here before the logarithm."""


@dataclass(frozen=True)
class JacobianResult:
    """Where the map went, and the statistics that belong to it."""

    path: Path
    summary: dict[str, Any]


def jacobian(
    source: str | Path,
    *,
    output: str | Path | None = None,
    log: bool = False,
    mask: str | Path | None = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> JacobianResult:
    """Write det(I + grad u) of a record's field, or of a field file, and summarise it.

    Central differences in world coordinates, unclipped; the statistics leave out the outermost
    layer and what is outside ``mask``. ``log`` writes log(max(det, 0.001)), which has no NaN.
    The affine of a record is not part of the map; its own determinant is in the summary.
    Raises InputError, GeometryError, OutputError.
    """
    affine = None
    warp = Path(source)
    if is_record(source):
        record = read_record(source)
        warp = recorded_output(source, record, FIELD)
        affine = read_affine(recorded_output(source, record, AFFINE))
    elif str(source).lower().endswith(TRANSFORM_SUFFIXES):
        raise _no_field(check_file(source))
    target = Path(output) if output is not None else _beside(Path(source), log)
    inputs = [source, warp, *([mask] if mask else [])]
    outputs = Outputs({"map": target}, inputs=inputs, overwrite=overwrite)
    check_suffix(target)
    field, grid = read_field(warp)
    with limited_threads(threads):
        determinant = field_jacobian(field, grid)
    inside = None if mask is None else torch.from_numpy(read_mask_on(mask, grid, "the field"))
    try:
        summary: dict[str, Any] = folds(determinant, inside, FLOOR).as_dict()
    except ValueError as error:
        raise GeometryError(f"{mask or warp}: {error}") from error
    if affine is not None:
        summary["affine_determinant"] = float(np.linalg.det(affine[:-1, :-1]))
    values = determinant.clamp(min=FLOOR).log() if log else determinant
    with outputs:
        outputs.image("map", values.float().numpy(), grid)
    return JacobianResult(target, summary)


def _no_field(file: Path) -> InputError:
    """What to give instead of a transform file: the record or the field of the same prefix."""
    what = "a linear transform has one determinant for all voxels"
    if file.name.lower().endswith((".h5", ".hdf5")):
        what = "a chain of transforms in one file"
    prefix = str(file)
    for role in (AFFINE, COMPOSITE):
        prefix = prefix.removesuffix(role)
    there = [name for name in (prefix + SUFFIX, prefix + FIELD) if is_file(Path(name))]
    here = f", here {' or '.join(there)}" if there else ""
    return InputError(
        f"{file}: {what}; jacobian takes a record (_regtool.json) or a displacement field "
        f"(PREFIX1Warp.nii.gz){here}"
    )


def _beside(source: Path, log: bool) -> Path:
    """``PREFIX(Log)Jacobian.nii.gz`` beside a record or a warp named ``PREFIX1Warp.nii.gz``."""
    name = source.name
    for suffix in (SUFFIX, FIELD, ".nii.gz", ".nii"):
        if name.endswith(suffix):
            name = name[: -len(suffix)]
            break
    return source.parent / f"{name}{'Log' if log else ''}Jacobian.nii.gz"
