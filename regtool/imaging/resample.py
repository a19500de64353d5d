"""Resampling of images through a chain of affine matrices and displacement fields, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from regtool.errors import GeometryError
from regtool.imaging.reading import sitk_image
from regtool.imaging.transforms import Field, Transform, to_sitk_transform
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
    dtype = _result_type(volume, interpolation)
    out = np.empty((channels.shape[0], *reference.shape), dtype=dtype)
    image = _to_tensor(channels, interpolation, device)
    chain = [_on_device(t, device) for t in transforms]
    for start, stop in _slabs(reference.shape):
        index = _sample_index(reference, start, stop, transforms, chain, volume.grid, device)
        values = _read(image, index, interpolation, default)
        if dtype.kind in "iu" and interpolation == "linear":
            values = values.round()
        shape = (-1, stop - start, *reference.shape[1:])
        out[:, start:stop] = values.reshape(shape).cpu().numpy().astype(dtype)
    return _channels_back(out, volume)


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


def _result_type(volume: Volume, interpolation: Interpolation) -> np.dtype[Any]:
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
    transforms: Sequence[Transform],
    chain: Sequence[_Prepared],
    target: Grid,
    device: torch.device | str,
) -> Tensor:
    """Where a slab of the reference grid reads the image: ITK index (x, y, z), (ndim, P)."""
    axes = [torch.arange(n, dtype=torch.float64, device=device) for n in reference.shape]
    axes[0] = axes[0][start:stop]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).flip(0)
    if not chain:
        direct = target.world_to_index @ reference.index_to_world
        return _affine(torch.from_numpy(direct).to(device), index)
    world = _affine(torch.from_numpy(reference.index_to_world).to(device), index)
    for position, transform in enumerate(chain):
        aligned = (
            position == 0
            and isinstance(transform, _DeviceField)
            and transform.grid.same_as(reference)
        )
        if aligned and isinstance(transform, _DeviceField):
            world = world + transform.values[:, start:stop].flatten(1)
        else:
            world = _apply(transform, world)
    return _affine(torch.from_numpy(target.world_to_index).to(device), world)


def _affine(matrix: Tensor, points: Tensor) -> Tensor:
    return matrix[:-1, :-1] @ points + matrix[:-1, -1:]


def _apply(transform: _Prepared, world: Tensor) -> Tensor:
    if isinstance(transform, Tensor):
        return _affine(transform, world)
    index = _affine(transform.to_index, world)
    return world + _read(transform.values, index, "linear", 0.0)


def _read(image: Tensor, index: Tensor, interpolation: str, default: float) -> Tensor:
    """Read (C, *S) at ITK indices (ndim, P) (x, y, z); ITK's boundary. Returns (C, P)."""
    sizes = torch.tensor(image.shape[:0:-1], dtype=torch.float64, device=index.device)[:, None]
    inside = ((index >= -0.5) & (index < sizes - 0.5)).all(0)
    clamped = torch.minimum(index.clamp(min=0), sizes - 1)
    if interpolation == "nearest":
        nearest = (index + 0.5).floor().clamp(min=0)
        values = _gather(image, torch.minimum(nearest, sizes - 1).long())
    elif interpolation == "label":
        values = _vote(image, clamped, sizes)
    else:
        values = _linear(image, clamped, sizes)
    return torch.where(inside, values, torch.as_tensor(default, dtype=values.dtype))


def _linear(image: Tensor, index: Tensor, sizes: Tensor) -> Tensor:
    ndim = index.shape[0]
    unit = 2 * index / (sizes - 1).clamp(min=1) - 1
    unit = torch.where(sizes > 1, unit, torch.zeros_like(unit))
    grid = unit.T.reshape(1, *(1,) * (ndim - 1), -1, ndim)
    out = grid_sample(image[None], grid, "bilinear", "border", align_corners=True)
    return out.reshape(image.shape[0], -1)


def _gather(image: Tensor, index: Tensor) -> Tensor:
    """Values at integer ITK indices (ndim, P)."""
    flat = torch.zeros_like(index[0])
    for axis in range(index.shape[0] - 1, -1, -1):  # x varies fastest
        flat = flat * image.shape[image.ndim - 1 - axis] + index[axis]
    return image.flatten(1)[:, flat]


def _vote(image: Tensor, index: Tensor, sizes: Tensor) -> Tensor:
    """The label with the largest sum of linear weights among the 2**ndim neighbours."""
    low = torch.minimum(index.floor(), (sizes - 2).clamp(min=0))
    part = index - low
    labels, weights = [], []
    for corner in range(1 << index.shape[0]):
        bits = torch.tensor(
            [(corner >> axis) & 1 for axis in range(index.shape[0])], device=index.device
        )[:, None]
        at = torch.minimum(low + bits, sizes - 1).long()
        labels.append(_gather(image, at))
        weights.append(torch.where(bits == 1, part, 1 - part).prod(0))
    best = labels[0]
    best_score = torch.full(best.shape, -1.0, dtype=torch.float64, device=index.device)
    for label in labels:
        score = sum(
            (torch.where(other == label, weight, 0.0) for other, weight in zip(labels, weights,
                                                                              strict=True)),
            start=torch.zeros_like(best_score),
        )  # fmt: skip
        better = score > best_score + 1e-9
        tied = ((score - best_score).abs() <= 1e-9) & (label < best)
        take = better | tied
        best = torch.where(take, label, best)
        best_score = torch.where(take, score, best_score)
    return best


def _by_channel(
    volume: Volume, reference: Grid, transforms: Sequence[Transform], default: float
) -> NDArray[Any]:
    """Cubic B-spline interpolation through SimpleITK, one channel at a time."""
    dtype = _result_type(volume, "bspline")
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


__all__ = ["Field", "Interpolation", "Transform", "resample", "transform_points"]
