"""Reading of images and label maps, with every check that ITK and nibabel leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.errors import GeometryError, InputError
from regtool.imaging import avi, nifti
from regtool.imaging.text_headers import check_text_header
from regtool.imaging.volume import HeaderFacts, Kind, Volume
from regtool.paths import exists, expanded, is_dir, is_file
from regtool.spatial.grid import Grid

FORM_TOLERANCE = 0.1
"""Voxels at the farthest corner; half-turn quaternions in float32 are off by about this."""
_OTHER_FORMATS = (".mha", ".mhd", ".nrrd", ".nhdr")
_UNITS: dict[int, str] = {0: "unknown", 1: "m", 2: "mm", 3: "um"}
_VECTOR_INTENTS = (1006, 1007)


def read_image(path: str | Path, allow: Sequence[Kind] = ("scalar",)) -> Volume:
    """Read an image and check it; the geometry is ITK's reading of the header (LPS mm).

    NIfTI (.nii, .nii.gz) and AVI (Motion JPEG), told by content, not by name; MetaImage and NRRD.
    NaN and infinite values become 0, as in ITK, and are counted. Values keep their stored type
    unless the header has a slope, which gives float32 (float64 stays).
    Raises InputError for a missing, damaged or unsupported file, or a kind that is not allowed;
    GeometryError for a sheared or impossible orientation. The message names the file.
    """
    file = check_file(path)
    try:
        return _read(file, allow)
    except OSError as error:  # gone, or shorter, since it was looked at
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None


def _read(file: Path, allow: Sequence[Kind]) -> Volume:
    head = nifti.first_bytes(file)
    if nifti.starts_like_nifti(head):
        return _read_nifti(file, allow)
    if avi.looks_like_avi(head):
        return _read_avi(file, allow)
    if file.suffix.lower() in _OTHER_FORMATS:
        return _read_with_itk(file, allow)
    raise InputError(
        f"{file}: not an image regtool can read (NIfTI, {', '.join(_OTHER_FORMATS)}); "
        "convert DICOM with dcm2niix, other formats with SimpleITK"
    )


def read_frame(path: str | Path, frame: int) -> Volume:
    """One frame, counted from 0, of a series as a scalar image; of a video, only it is decoded.

    An image that is no series is its frame 0. Raises InputError for a frame that is not there,
    otherwise as ``read_image``.
    """
    file = check_file(path)
    try:
        if avi.looks_like_avi(nifti.first_bytes(file)):
            return avi.as_volume(avi.open_video(file), frame)
        return read_image(file, ("scalar", "series")).frame(frame)
    except IndexError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None


def read_labels(path: str | Path, allow: Sequence[Kind] = ("scalar",)) -> Volume:
    """Read a label map: integer values; floats must be whole numbers and get the smallest type.

    Raises InputError when values are not integral, otherwise as ``read_image``.
    """
    return as_labels(read_image(path, allow))


def as_labels(volume: Volume) -> Volume:
    """The image as a label map: integers stay, floats must be whole numbers. Raises InputError."""
    if volume.array.dtype.kind in "iu":
        return volume
    return volume.with_array(_integral(volume))


def from_values(path: Path, values: NDArray[Any], grid: Grid, form: str) -> Volume:
    """A scalar image of values that were read elsewhere; NaN and infinite ones become 0."""
    values, nonfinite = _zero_nonfinite(values)
    warnings = (_nonfinite_warning(path, nonfinite),) if nonfinite else ()
    facts = HeaderFacts(form, grid.size, nonfinite=nonfinite)
    return Volume(values, grid, "scalar", values.dtype, path, facts, warnings)


def read_mask(path: str | Path) -> Volume:
    """Read a mask: uint8, 1 where the file is not 0. Raises as ``read_image``."""
    volume = read_image(path)
    return volume.with_array((volume.array != 0).astype(np.uint8))


def check_file(path: str | Path) -> Path:
    """The path with ~ expanded, if it is a readable file that is not empty; else InputError."""
    file = expanded(path)
    if is_dir(file):
        raise InputError(f"{file}: is a folder; give an image file")
    if not exists(file):
        raise InputError(f"{file}: no such file")
    if not is_file(file):
        raise InputError(f"{file}: not a regular file")
    try:
        if file.stat().st_size == 0:
            raise InputError(f"{file}: the file is empty")
        with file.open("rb"):
            return file
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None


def _integral(volume: Volume) -> NDArray[Any]:
    values = volume.array
    if not np.array_equal(values, np.rint(values)):
        odd = values[values != np.rint(values)].flat[0]
        raise InputError(
            f"{volume.name}: not a label map: it has values such as {odd:g}; labels are whole "
            "numbers (was it resampled with linear interpolation?)"
        )
    low, high = float(values.min()), float(values.max())
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.int64):
        if low >= np.iinfo(dtype).min and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    raise InputError(f"{volume.name}: label values from {low:g} to {high:g} are too large")


def _read_nifti(path: Path, allow: Sequence[Kind]) -> Volume:
    raw = nifti.load(path)
    kind, size = classify(path, raw.header)
    _check_allowed(path, kind, nifti.stored_shape(path, raw.header), allow)
    grid = nifti.itk_grid(path, raw.header, size)
    values = _arrange(raw.values, kind, grid)
    values, scaled = _apply_slope(values, raw.header)
    values, nonfinite = _zero_nonfinite(values)
    facts, warnings = _facts(path, raw.header, grid)
    facts = replace(facts, nonfinite=nonfinite, scaled=scaled)
    if nonfinite:
        warnings.append(_nonfinite_warning(path, nonfinite))
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


_MEANING = {
    "scalar": "an image of one value a voxel",
    "rgb": "a colour (RGB) image",
    "series": "a series of frames",
    "vector": "a vector image (displacement field)",
}


def _check_allowed(path: Path, kind: Kind, shape: tuple[int, ...], allow: Sequence[Kind]) -> None:
    if kind in allow:
        return
    size = "×".join(str(n) for n in shape)
    expected = " or ".join(_MEANING[k] for k in allow)
    hint = "; choose one frame first" if kind == "series" else ""
    raise InputError(f"{path}: is {_MEANING[kind]} of size {size}; expected {expected}{hint}")


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


def _zero_nonfinite(values: NDArray[Any]) -> tuple[NDArray[Any], int]:
    if values.dtype.kind != "f":
        return values, 0
    finite = np.isfinite(values)
    count = int(values.size - np.count_nonzero(finite))
    return (np.where(finite, values, values.dtype.type(0)) if count else values), count


def _nonfinite_warning(path: Path, count: int) -> str:
    return f"{path}: {count} NaN or infinite values were read as 0"


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
        time_step=float(header["pixdim"][4]) or 1.0,
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


def _read_avi(path: Path, allow: Sequence[Kind]) -> Volume:
    video = avi.open_video(path)
    shape = (*video.size, len(video.frames))
    _check_allowed(path, "series", shape, allow)
    nifti.check_memory(path, "×".join(map(str, shape)), int(np.prod(shape, dtype=object)))
    return avi.as_volume(video)


def _read_with_itk(path: Path, allow: Sequence[Kind]) -> Volume:
    """Read MetaImage or NRRD through SimpleITK."""
    check_text_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = tuple(reader.GetSize())
        image = reader.Execute()
    except (RuntimeError, UnicodeDecodeError) as error:
        last = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{path}: ITK cannot read it: {last}") from None
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{path}: complex values; save the magnitude or one part as real numbers")
    components, ndim = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
    if ndim not in (2, 3, 4) or (ndim == 4 and components > 1):
        raise InputError(f"{path}: {ndim}-D images of this kind are not supported")
    kind: Kind = "series" if ndim == 4 else "scalar"
    if components > 1:
        is_colour = image.GetPixelID() == sitk.sitkVectorUInt8 and components in (3, 4)
        kind = "rgb" if is_colour else "vector"
    _check_allowed(path, kind, size, allow)
    values, nonfinite = _zero_nonfinite(sitk.GetArrayFromImage(image))
    grid = grid_of(image)
    nifti.check_grid(path, grid)
    warnings = [_nonfinite_warning(path, nonfinite)] if nonfinite else []
    facts = HeaderFacts(path.suffix[1:].lower(), size, units="mm", nonfinite=nonfinite)
    return Volume(values, grid, kind, values.dtype, path, facts, tuple(warnings))


def grid_of(image: sitk.Image) -> Grid:
    """The spatial grid of a SimpleITK image; of a 4-D image its first three axes."""
    n = min(image.GetDimension(), 3)
    direction = np.asarray(image.GetDirection()).reshape(image.GetDimension(), -1)[:n, :n]
    if abs(np.linalg.det(direction)) < 0.99:
        raise GeometryError("a 4-D image whose time axis is mixed with space is not supported")
    return Grid(
        tuple(image.GetSize()[:n]), tuple(image.GetSpacing()[:n]),
        tuple(float(v) for v in direction.ravel()), tuple(image.GetOrigin()[:n]),
    )  # fmt: skip


def sitk_image(array: NDArray[Any], grid: Grid, *, vector: bool = False) -> sitk.Image:
    """A SimpleITK image of an array (*grid.shape[, C]) on a grid (values copied)."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image
