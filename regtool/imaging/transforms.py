"""Transform files: displacement fields as NIfTI, affine matrices and chains as ITK files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.errors import GeometryError, InputError
from regtool.imaging.apart import read_apart
from regtool.imaging.itk import grid_of, sitk_image
from regtool.imaging.linear_files import read_linear
from regtool.imaging.nifti import check_grid, first_bytes, starts_like_nifti
from regtool.imaging.nifti_write import vector_header, write_nifti
from regtool.imaging.reading import check_file, read_image
from regtool.spatial.grid import Grid, Matrix

Field = tuple[NDArray[np.float32], Grid]
Transform = Matrix | Field
"""A homogeneous world matrix (LPS mm), or a field (*S, ndim) in LPS mm with its grid."""

TRANSFORM_SUFFIXES = (".mat", ".tfm", ".txt", ".h5", ".hdf5", ".xfm")
_FIELD_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_PLAIN_SUFFIXES = (".mat", ".tfm", ".txt")


def write_field(path: str | Path, field: NDArray[Any], grid: Grid) -> None:
    """Write a displacement field (*grid.shape, ndim), LPS mm, as 5-D NIfTI of intent 1007.

    On disk (X,Y,Z,1,3) or (X,Y,1,1,2), float32; a one-slice 3-D grid gives (X,Y,1,1,3). sform and
    qform are both set. Raises ValueError when shapes disagree.
    """
    if field.shape != (*grid.shape, grid.ndim):
        raise ValueError(f"field {field.shape} does not fit grid {grid.shape}")
    values = np.ascontiguousarray(np.moveaxis(field, -1, 0), dtype=np.float32)
    write_nifti(path, values, vector_header(grid, values.dtype, grid.ndim))


def read_field(path: str | Path) -> Field:
    """Read a displacement field: (*S, ndim) float32, LPS mm, and its grid.

    (X,Y,1,1,3) is a field on one slice of a volume, which ITK alone would read as 2-D. NIfTI's
    intents are 1007 and, with RAS components, 1006; others are refused.
    Raises InputError for a file that is not a field, GeometryError for a wrong dimension.
    """
    volume = read_image(path, allow=("vector", "series", "scalar", "rgb"))
    if volume.kind != "vector":
        raise InputError(
            f"{volume.name}: not a displacement field; expected a 5-D NIfTI (X,Y,Z,1,3) or "
            "(X,Y,1,1,2) with intent 1007 and LPS mm"
        )
    components = volume.array.shape[-1]
    if components != volume.ndim:
        raise GeometryError(
            f"{volume.name}: {components} components on a {volume.ndim}-D grid; a displacement "
            "field has one component for each dimension"
        )
    return np.ascontiguousarray(volume.array, dtype=np.float32), volume.grid


def write_affine(path: str | Path, matrix: Matrix) -> None:
    """Write a homogeneous world matrix (LPS mm, fixed to moving points) as an ITK affine."""
    sitk.WriteTransform(affine_to_sitk(matrix), str(path))


def read_affine(path: str | Path, ndim: int | None = None) -> Matrix:
    """Read any linear ITK transform as a homogeneous matrix (ndim+1, ndim+1), LPS mm.

    Raises InputError when the file is not a linear transform, GeometryError when it is not of
    dimension ``ndim``.
    """
    parts = _read_parts(check_file(path))
    if len(parts) != 1 or isinstance(parts[0], tuple):
        raise InputError(f"{path}: not a linear transform")
    matrix = parts[0]
    if ndim is not None and len(matrix) - 1 != ndim:
        raise GeometryError(f"{path}: a {len(matrix) - 1}-D transform for {ndim}-D images")
    return matrix


def read_transforms(path: str | Path) -> list[Transform]:
    """Read any transform file: the list in the order that ``resample`` takes.

    A NIfTI, NRRD or MetaImage field, a linear ITK transform, or a composite of these (.h5).
    Raises InputError or GeometryError as ``read_field`` and ``read_affine``.
    """
    file = check_file(path)
    if not file.name.lower().endswith(TRANSFORM_SUFFIXES):
        _check_kind(file)
        return [read_field(file)]
    return _read_parts(file)


def _check_kind(file: Path) -> None:
    """Raise InputError for a file that is neither NIfTI nor named like another image."""
    if file.name.lower().endswith((".nii", ".nii.gz", *_FIELD_SUFFIXES)):
        return
    try:
        known = starts_like_nifti(first_bytes(file))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    if not known:
        raise InputError(
            f"{file}: not a transform regtool can read; give a field (.nii.gz, "
            f"{', '.join(_FIELD_SUFFIXES)}), an ITK transform ({', '.join(TRANSFORM_SUFFIXES)}) "
            "or a record (_regtool.json)"
        )


def write_composite(path: str | Path, affine: Matrix, field: NDArray[Any], grid: Grid) -> None:
    """Write ``A(x + u(x))`` as one ITK composite transform (.h5)."""
    sitk.WriteTransform(to_sitk_transform([(field, grid), affine], grid.ndim), str(path))


def affine_to_sitk(matrix: Matrix) -> sitk.AffineTransform:
    """The ITK affine transform of a homogeneous matrix."""
    ndim = matrix.shape[0] - 1
    transform = sitk.AffineTransform(ndim)
    transform.SetMatrix([float(v) for v in np.asarray(matrix)[:-1, :-1].ravel()])
    transform.SetTranslation([float(v) for v in np.asarray(matrix)[:-1, -1]])
    return transform


def to_sitk_transform(transforms: Sequence[Transform], ndim: int) -> sitk.CompositeTransform:
    """The ITK composite of a list in ``resample`` order; an empty list is the identity."""
    composite = sitk.CompositeTransform(ndim)
    for transform in reversed(transforms):  # ITK applies the one added last first
        if isinstance(transform, tuple):
            image = sitk_image(transform[0].astype(np.float64), transform[1], vector=True)
            composite.AddTransform(sitk.DisplacementFieldTransform(image))
        else:
            composite.AddTransform(affine_to_sitk(transform))
    return composite


def _read_parts(path: Path) -> list[Transform]:
    """The parts of a transform file, each of them finite."""
    linear = None
    if path.name.lower().endswith(_PLAIN_SUFFIXES):
        linear = read_linear(path)
    parts = read_apart(path) if linear is None else [matrix_of(linear)]
    for part in parts:
        values, grid = part if isinstance(part, tuple) else (part, None)
        if not np.isfinite(values).all():
            raise InputError(f"{path}: numbers that are not finite")
        if grid is not None:
            check_grid(path, grid)
    return parts


def itk_parts(path: Path) -> list[Transform]:
    """The parts of a transform file as ITK reads it, in this process; see ``read_apart``."""
    try:
        transform = sitk.ReadTransform(str(path))
    except (RuntimeError, UnicodeDecodeError, MemoryError):
        raise InputError(f"{path}: not an ITK transform file (.mat, .tfm, .txt, .h5)") from None
    return _parts(path, transform)


def matrix_of(transform: sitk.Transform) -> Matrix:
    """Evaluate a linear transform at the origin and the unit points."""
    ndim = transform.GetDimension()
    shift = np.asarray(transform.TransformPoint([0.0] * ndim))
    matrix = np.eye(ndim + 1)
    for axis, unit in enumerate(np.eye(ndim)):
        matrix[:-1, axis] = np.asarray(transform.TransformPoint(unit.tolist())) - shift
    matrix[:-1, -1] = shift
    return matrix


def _parts(path: Path, transform: sitk.Transform) -> list[Transform]:
    if transform.IsLinear():
        return [matrix_of(transform)]
    if transform.GetTransformEnum() == sitk.sitkComposite:
        composite = sitk.CompositeTransform(transform)
        inner = [composite.GetNthTransform(i) for i in range(composite.GetNumberOfTransforms())]
        return [part for one in reversed(inner) for part in _parts(path, one)]
    if transform.GetTransformEnum() == sitk.sitkDisplacementField:
        image = sitk.DisplacementFieldTransform(transform).GetDisplacementField()
        return [(sitk.GetArrayFromImage(image).astype(np.float32), grid_of(image))]
    raise InputError(f"{path}: unsupported transform {transform.GetName()}")
