"""Resampling of images through a chain of affine matrices and displacement fields, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from regtool.errors import GeometryError
from regtool.imaging.itk import sitk_image
from regtool.imaging.sampling import read_at
from regtool.imaging.transforms import Transform, to_sitk_transform
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid

Interpolation = Literal["linear", "nearest", "label", "bspline"]
SLAB_VOXELS = 1 << 20
"""Output voxels handled at a time; bounds the memory of the float64 coordinates."""


def resample(
    volume: Volume,
    reference: Grid,
    transforms: Sequence[Transform] = (),
    interpolation: Interpolation = "linear",
    default: float = 0.0,
    device: torch.device | str = "cpu",
) -> NDArray[Any]:
    """Resample an image onto another grid through a chain of transforms, interpolating once.

    A reference point (LPS mm) goes through the first transform of the list first; what comes out
    of the last is where the image is read: ``[field, affine]`` means ``A(x + u(x))``, the order of
    ``antsApplyTransforms -t 1Warp -t 0GenericAffine``. A transform is a homogeneous world matrix
    or ``(field, grid)``; outside its grid a field is zero.
    Boundaries are ITK's: the edge value up to half a voxel outside the outer voxel centres,
    ``default`` beyond. ``label`` is one-hot linear with arg-max, ties to the lower label.

    Returns (*reference.shape), with a leading T for a series and a trailing C for RGB and vector.
    ``nearest`` and ``label`` keep the array's type, RGB too (rounded); otherwise float32, or
    float64 for a float64 image. Raises GeometryError when dimensions differ.
    """
    _check_dimensions(volume, reference, transforms)
    if interpolation == "bspline":
        return _by_channel(volume, reference, transforms, default)
    channels = _channels_first(volume)
    dtype = result_type(volume, interpolation)
    out = np.empty((channels.shape[0], *reference.shape), dtype=dtype)
    image = _to_tensor(channels, interpolation, device)
    chain = [_on_device(t, device) for t in transforms]
    for start, stop in _slabs(reference.shape):
        index = _sample_index(reference, start, stop, chain, volume.grid, device)
        values = read_at(image, index, interpolation, default)
        if dtype.kind in "iu" and interpolation == "linear":
            values = values.round()
        shape = (-1, stop - start, *reference.shape[1:])
        out[:, start:stop] = values.reshape(shape).cpu().numpy().astype(dtype)
    return _channels_back(out, volume)


def covered(
    grid: Grid,
    reference: Grid,
    transforms: Sequence[Transform] = (),
    device: torch.device | str = "cpu",
) -> NDArray[np.bool_]:
    """Where ``resample`` reads inside an image on ``grid``: (*reference.shape)."""
    everywhere = Volume(np.ones(grid.shape, np.uint8), grid)
    return resample(everywhere, reference, transforms, "nearest", device=device) != 0


def transform_points(
    points: NDArray[np.float64], transforms: Sequence[Transform]
) -> NDArray[np.float64]:
    """Map points (N, ndim), LPS mm, through the transforms, the first of the list first."""
    world = torch.from_numpy(np.array(points, dtype=np.float64)).T
    for transform in transforms:
        world = _apply(_on_device(transform, "cpu"), world)
    return world.T.contiguous().numpy()


class _DeviceField:
    """A displacement field as a tensor (ndim, *S), with the matrix from world to its index."""

    def __init__(self, field: NDArray[Any], grid: Grid, device: torch.device | str) -> None:
        values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(field, -1, 0)))
        self.values = values.to(device=device, dtype=torch.float64)
        self.grid = grid
        self.to_index = torch.from_numpy(grid.world_to_index).to(device)


_Prepared = Tensor | _DeviceField


def _check_dimensions(volume: Volume, grid: Grid, transforms: Sequence[Transform]) -> None:
    sizes = {t[1].ndim if isinstance(t, tuple) else t.shape[0] - 1 for t in transforms}
    if volume.ndim != grid.ndim or sizes - {grid.ndim}:
        found = sorted({volume.ndim, grid.ndim, *sizes})
        raise GeometryError(
            f"{volume.name}: image, reference and transforms differ in dimension {found}; "
            "all must be 2-D or all 3-D"
        )


def result_type(volume: Volume, interpolation: Interpolation) -> np.dtype[Any]:
    """The type of what ``resample`` returns."""
    dtype = volume.array.dtype
    if interpolation in ("nearest", "label"):
        return np.dtype(np.uint8) if dtype == np.bool_ else dtype
    if volume.kind == "rgb":
        return dtype
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _channels_first(volume: Volume) -> NDArray[Any]:
    if volume.kind == "scalar":
        return volume.array[None]
    return volume.array if volume.kind == "series" else np.moveaxis(volume.array, -1, 0)


def _channels_back(out: NDArray[Any], volume: Volume) -> NDArray[Any]:
    if volume.kind == "scalar":
        return out[0]
    return out if volume.kind == "series" else np.ascontiguousarray(np.moveaxis(out, 0, -1))


def _to_tensor(
    channels: NDArray[Any], interpolation: Interpolation, device: torch.device | str
) -> Tensor:
    kind = channels.dtype.kind
    if interpolation == "linear" or kind == "f":
        wide = np.ascontiguousarray(channels, dtype=np.float64)
    else:
        wide = np.ascontiguousarray(channels).astype(np.int64)
    return torch.from_numpy(wide).to(device)


def _on_device(transform: Transform, device: torch.device | str) -> _Prepared:
    if isinstance(transform, tuple):
        return _DeviceField(transform[0], transform[1], device)
    return torch.from_numpy(np.array(transform, dtype=np.float64)).to(device)


def _slabs(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Ranges of the first axis that hold about ``SLAB_VOXELS`` voxels each."""
    step = max(1, SLAB_VOXELS // max(1, int(np.prod(shape[1:]))))
    return [(a, min(a + step, shape[0])) for a in range(0, shape[0], step)]


def _sample_index(
    reference: Grid,
    start: int,
    stop: int,
    chain: Sequence[_Prepared],
    target: Grid,
    device: torch.device | str,
) -> Tensor:
    """Where a slab of the reference grid reads the image: ITK index (x, y, z), (ndim, P).

    Matrices are multiplied before they meet the voxels: with a field on the reference grid and any
    affines after it, the points are computed in one pass.
    """
    points = _Points(reference, start, stop, device)
    for transform in chain:
        if isinstance(transform, Tensor):
            points.multiply(transform)
        elif points.untouched and transform.grid.same_as(reference):
            points.add(transform.values[:, start:stop].flatten(1))
        else:
            points.replace(_apply(transform, points.values()))
    points.multiply(torch.from_numpy(target.world_to_index).to(device))
    return points.values()


class _Points:
    """Points ``A(voxel) + B(shift)`` of a slab, with the matrices A and B kept unapplied."""

    def __init__(self, reference: Grid, start: int, stop: int, device: torch.device | str) -> None:
        axes = [torch.arange(n, dtype=torch.float64, device=device) for n in reference.shape]
        axes[0] = axes[0][start:stop]
        self._axes: list[Tensor] = axes[::-1]  # x, y, z
        self._matrix: Tensor | None = torch.from_numpy(reference.index_to_world).to(device)
        self._shift: Tensor | None = None
        self._mix = torch.eye(reference.ndim + 1, dtype=torch.float64, device=device)
        self.untouched = True

    def multiply(self, matrix: Tensor) -> None:
        self.untouched = False
        self._mix = matrix @ self._mix
        if self._matrix is not None:
            self._matrix = matrix @ self._matrix

    def add(self, shift: Tensor) -> None:
        self.untouched = False
        self._shift = shift

    def replace(self, points: Tensor) -> None:
        """Take explicit points from now on."""
        self.untouched = False
        self._matrix, self._shift = None, points
        self._mix = torch.eye(points.shape[0] + 1, dtype=torch.float64, device=points.device)

    def values(self) -> Tensor:
        """The points, (ndim, P)."""
        if self._matrix is None:
            assert self._shift is not None
            return _affine(self._mix, self._shift)
        rows = [self._row(row) for row in self._matrix[:-1]]
        points = torch.stack(rows).flatten(1)
        if self._shift is not None:
            points.addmm_(self._mix[:-1, :-1], self._shift)
        return points

    def _row(self, row: Tensor) -> Tensor:
        """One coordinate over the slab (*S): a sum of one term for each axis."""
        total = row[-1]
        for axis, values in enumerate(self._axes):
            term = row[axis] * values
            total = total + term.reshape(-1, *(1,) * axis)
        return total


def _affine(matrix: Tensor, points: Tensor) -> Tensor:
    return torch.addmm(matrix[:-1, -1:], matrix[:-1, :-1], points)


def _apply(transform: _Prepared, world: Tensor) -> Tensor:
    if isinstance(transform, Tensor):
        return _affine(transform, world)
    index = _affine(transform.to_index, world)
    return world + read_at(transform.values, index, "linear", 0.0)


def _by_channel(
    volume: Volume, reference: Grid, transforms: Sequence[Transform], default: float
) -> NDArray[Any]:
    """Cubic B-spline interpolation through SimpleITK, one channel at a time."""
    dtype = result_type(volume, "bspline")
    chain = to_sitk_transform(transforms, reference.ndim)
    out = []
    for channel in _channels_first(volume):
        values = _bspline(channel, volume.grid, reference, chain, default)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        out.append(values.astype(dtype))
    return _channels_back(np.stack(out), volume)


def _bspline(
    channel: NDArray[Any], grid: Grid, reference: Grid, chain: sitk.Transform, default: float
) -> NDArray[np.float64]:
    # ITK's spline needs four samples an axis: a short axis is repeated at its ends, and what then
    # reads as inside is cut back to the real extent with a nearest-neighbour mask.
    pad = [4 if n < 4 else 0 for n in grid.size]
    image = sitk_image(channel.astype(np.float64), grid)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(reference.size)
    resampler.SetOutputSpacing(reference.spacing)
    resampler.SetOutputOrigin(reference.origin)
    resampler.SetOutputDirection(reference.direction)
    resampler.SetTransform(chain)
    resampler.SetOutputPixelType(sitk.sitkFloat64)
    resampler.SetDefaultPixelValue(default)
    resampler.SetInterpolator(sitk.sitkBSpline)
    if not any(pad):
        return sitk.GetArrayFromImage(resampler.Execute(image))
    padded = sitk.ConstantPad(image, pad, pad, 0.0)
    widths = [(p, p) for p in reversed(pad)]
    full = sitk_image(np.pad(channel.astype(np.float64), widths, mode="edge"), grid)
    full.CopyInformation(padded)
    full.SetOrigin(padded.TransformIndexToPhysicalPoint([0] * grid.ndim))
    values = sitk.GetArrayFromImage(resampler.Execute(full))
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(0.0)
    inside = sitk.GetArrayFromImage(resampler.Execute(sitk.Cast(image * 0 + 1, sitk.sitkFloat64)))
    return np.where(inside > 0.5, values, default)
