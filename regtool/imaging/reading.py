"""Reading of images and label maps, with every check that ITK and nibabel leave out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.errors import GeometryError, InputError
from regtool.imaging import avi, nifti
from regtool.imaging.contents import check_allowed, nonfinite_warning, zero_nonfinite
from regtool.imaging.itk import grid_of
from regtool.imaging.nifti_reading import read_nifti
from regtool.imaging.text_headers import check_text_header
from regtool.imaging.volume import HeaderFacts, Kind, Volume
from regtool.paths import exists, expanded, is_dir, is_file
from regtool.spatial.grid import Grid

_OTHER_FORMATS = (".mha", ".mhd", ".nrrd", ".nhdr")


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
        return read_nifti(file, allow)
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
    values, nonfinite = zero_nonfinite(values)
    warnings = (nonfinite_warning(path, nonfinite),) if nonfinite else ()
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


def _read_avi(path: Path, allow: Sequence[Kind]) -> Volume:
    video = avi.open_video(path)
    shape = (*video.size, len(video.frames))
    check_allowed(path, "series", shape, allow)
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
    check_allowed(path, kind, size, allow)
    values, nonfinite = zero_nonfinite(sitk.GetArrayFromImage(image))
    _check_time_axis(path, image)
    grid = grid_of(image)
    nifti.check_grid(path, grid)
    warnings = [nonfinite_warning(path, nonfinite)] if nonfinite else []
    facts = HeaderFacts(
        path.suffix[1:].lower(), size, units="mm", nonfinite=nonfinite,
        time_step=float(image.GetSpacing()[3]) if kind == "series" else 1.0,
    )  # fmt: skip
    return Volume(values, grid, kind, values.dtype, path, facts, tuple(warnings))


def _check_time_axis(path: Path, image: sitk.Image) -> None:
    direction = np.asarray(image.GetDirection()).reshape(image.GetDimension(), -1)
    mixed = np.concatenate([direction[3:, :3].ravel(), direction[:3, 3:].ravel()])
    if np.abs(mixed).max(initial=0.0) > nifti.SHEAR:
        raise GeometryError(
            f"{path}: a 4-D image whose time axis is mixed with space is not supported"
        )
