"""From a NIfTI file to a volume: its kind, layout, scaling, and what its header says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging import nifti
from regtool.imaging.contents import check_allowed, nonfinite_warning, zero_nonfinite
from regtool.imaging.volume import HeaderFacts, Kind, Volume
from regtool.spatial.grid import Grid

FORM_TOLERANCE = 0.1
"""Voxels at the farthest corner; half-turn quaternions in float32 are off by about this."""
_UNITS: dict[int, str] = {0: "unknown", 1: "m", 2: "mm", 3: "um"}
_RAS_VECTORS = 1006
_VECTOR_INTENTS = (_RAS_VECTORS, 1007)
_TIME_UNITS = {16: 1e-3, 24: 1e-6}
"""Seconds in NIfTI's milliseconds and microseconds."""


def read_nifti(path: Path, allow: Sequence[Kind]) -> Volume:
    """Read a NIfTI file of an allowed kind. Raises InputError and GeometryError, naming it."""
    raw = nifti.load(path)
    kind, size = classify(path, raw.header)
    check_allowed(path, kind, nifti.stored_shape(path, raw.header), allow)
    grid = nifti.itk_grid(path, raw.header, size)
    values = _arrange(raw.values, kind, grid)
    values, scaled = _apply_slope(values, raw.header)
    if int(raw.header["intent_code"]) == _RAS_VECTORS and kind == "vector":
        values = _to_lps(values)
    values, nonfinite = zero_nonfinite(values)
    facts, warnings = _facts(path, raw.header, grid)
    facts = replace(facts, nonfinite=nonfinite, scaled=scaled)
    if nonfinite:
        warnings.append(nonfinite_warning(path, nonfinite))
    dtype = raw.header.get_data_dtype().newbyteorder("=")
    dtype = dtype if dtype.fields is None else np.dtype(np.uint8)
    return Volume(values, grid, kind, dtype, path, facts, tuple(warnings))


def classify(path: Path, header: Any) -> tuple[Kind, tuple[int, ...]]:
    """What a NIfTI file holds, and its spatial size (x, y[, z]).

    (X,Y) is 2-D, (X,Y,1) and (X,Y,1,1) are 3-D with one slice, (X,Y,Z,T) a series. A vector image
    is 5-D with intent 1006 or 1007; (X,Y,1,1,2) is 2-D, (X,Y,1,1,3) 3-D with one slice.
    """
    shape = nifti.stored_shape(path, header)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 1:
        raise InputError(f"{path}: a one-dimensional file of {shape[0]} values, not an image")
    if len(shape) <= 3:
        return ("rgb" if header["datatype"] in (128, 2304) else "scalar"), shape
    if len(shape) == 4:
        return "series", shape[:3]
    if len(shape) == 5 and shape[3] == 1 and int(header["intent_code"]) in _VECTOR_INTENTS:
        two = shape[4] == 2 and shape[2] == 1
        return "vector", shape[:2] if two else shape[:3]
    size = "×".join(str(n) for n in shape)
    raise InputError(
        f"{path}: a {len(shape)}-D file of size {size} without the intent of a vector image "
        "(1007) is not supported"
    )


def _arrange(values: NDArray[Any], kind: Kind, grid: Grid) -> NDArray[Any]:
    """From the reversed disk shape to the layout of ``Volume``."""
    if kind == "rgb":
        return values.reshape(*grid.shape, values.shape[-1])
    if kind == "series":
        return values.reshape(-1, *grid.shape)
    if kind == "vector":
        return np.moveaxis(values.reshape(-1, *grid.shape), 0, -1)
    return values.reshape(grid.shape)


def _apply_slope(values: NDArray[Any], header: Any) -> tuple[NDArray[Any], bool]:
    """Apply slope and intercept as ITK does: computed in float64, stored as float32 or float64."""
    slope, shift = float(header["scl_slope"]), float(header["scl_inter"])
    slope = slope if np.isfinite(slope) else 0.0
    shift = shift if np.isfinite(shift) else 0.0
    if slope == 0 or (slope == 1 and shift == 0) or header["datatype"] in (128, 2304):
        return values, False
    out = np.empty(values.shape, np.float64 if values.dtype == np.float64 else np.float32)
    for piece, target in zip(values, out, strict=True):  # by slab, to bound the float64 copies
        target[...] = piece.astype(np.float64) * slope + shift
    return out, True


def _to_lps(values: NDArray[Any]) -> NDArray[Any]:
    """Vectors (..., C) with RAS components in LPS, as ITK reads them."""
    signed = values if values.dtype.kind != "u" else values.astype(np.float32)
    np.negative(signed[..., :2], out=signed[..., :2])
    return signed


def _time_step(header: Any) -> float:
    """Seconds between frames, as far as the header tells the unit; 1 where it gives no number."""
    step = float(header["pixdim"][4])
    if not (np.isfinite(step) and step > 0):
        return 1.0
    return step * _TIME_UNITS.get(int(header["xyzt_units"]) & 56, 1.0)


def _facts(path: Path, header: Any, grid: Grid) -> tuple[HeaderFacts, list[str]]:
    """Compare sform, qform and what ITK made of them."""
    sform, qform = _form(header, "sform"), _form(header, "qform")
    codes = int(header["sform_code"]), int(header["qform_code"])
    scale = {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)
    uses_sform = sform is not None and _apart(sform, grid, scale) <= FORM_TOLERANCE
    uses_qform = qform is not None and _apart(qform, grid, scale) <= FORM_TOLERANCE
    authority: Literal["sform", "qform", "none"]
    authority = "sform" if uses_sform else ("qform" if uses_qform else "none")
    agree = (uses_sform and uses_qform) if codes[0] > 0 and codes[1] > 0 else None
    warnings = []
    if codes[0] <= 0 and codes[1] <= 0:
        warnings.append(f"{path}: no orientation in the header (sform and qform codes are 0)")
    elif agree is False:
        other = {"sform": "qform", "qform": "sform"}.get(authority, "both")
        warnings.append(
            f"{path}: sform and qform disagree; ITK's choice, "
            f"{authority if authority != 'none' else 'a mixture of them'}, is used and {other} "
            "ignored"
        )
    elif authority == "none":
        warnings.append(f"{path}: the orientation matrix and the voxel size (pixdim) disagree")
    facts = HeaderFacts(
        format="NIfTI-2" if int(header["sizeof_hdr"]) == 540 else "NIfTI-1",
        stored_shape=nifti.stored_shape(path, header),
        sform_code=codes[0],
        qform_code=codes[1],
        agree=agree,
        authority=authority,
        units=_UNITS.get(int(header["xyzt_units"]) & 7, "unknown"),
        intent=int(header["intent_code"]),
        time_step=_time_step(header),
    )
    return facts, warnings


def _form(header: Any, name: str) -> NDArray[np.float64] | None:
    if int(header[f"{name}_code"]) <= 0:
        return None
    try:
        form = header.get_sform() if name == "sform" else header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):
        return np.full((4, 4), np.inf)
    return np.asarray(form, dtype=np.float64)


def _apart(form: NDArray[np.float64], grid: Grid, scale: float) -> float:
    """Largest distance, in voxels, between the corners by this RAS matrix and by the grid."""
    if not np.isfinite(form).all():
        return np.inf
    n = grid.ndim
    ends = np.stack(np.meshgrid(*[(0, s - 1 or 1) for s in grid.size], indexing="ij"), -1)
    index = ends.reshape(-1, n)
    lps = (nifti.LPS_RAS @ form)[:n] * scale
    by_form = index @ lps[:, :n].T + lps[:, 3]
    world = grid.index_to_world
    apart = by_form - (index @ world[:n, :n].T + world[:n, n])
    return float(np.abs(apart @ grid.direction_matrix / np.asarray(grid.spacing)).max())
