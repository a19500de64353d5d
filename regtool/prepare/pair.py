"""From two images to the pair of tensors that a network registers, and its answer back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from regtool.errors import GeometryError, WeightsError
from regtool.imaging.resample import resample, transform_points
from regtool.imaging.volume import Volume
from regtool.plugins.exchange import Pair, Prediction, Sample
from regtool.prepare.anchor import find_anchor
from regtool.prepare.gridding import network_grid
from regtool.prepare.intensity import normalise
from regtool.prepare.preparation import Preparation
from regtool.spatial.frames import (
    affine_to_world,
    axis_directions,
    to_network_displacement,
    to_world_field,
)
from regtool.spatial.grid import Grid, Matrix
from regtool.spatial.smooth import gaussian


@dataclass(frozen=True)
class Prepared:
    """A pair on the network's grid, and the way back to the fixed image.

    ``grid`` has the fixed image's dimension. With ``sliced``, its z axis is the batch axis of
    ``pair``: B slices (B, C, y, x); otherwise B = 1. ``initial`` is the world transform through
    which the moving image was sampled. ``tile`` is set when the pair goes through the network in
    tiles of that size.
    """

    pair: Pair
    grid: Grid
    fixed: Grid
    initial: Matrix
    sliced: bool
    taper: int
    tile: tuple[int, ...] | None = None
    overlap: float = 0.5

    def stack(self, displacement: Tensor) -> Tensor:
        """A method's displacement (B, ndim, *S) as (grid.ndim, *grid.shape), on the CPU."""
        u = displacement.detach().to("cpu", torch.float32)
        if not self.sliced:
            return u[0]
        still = torch.zeros_like(u[:, :1])  # nothing moves across slices
        return torch.cat([still, u], 1).movedim(0, 1).contiguous()

    def unstack(self, displacement: Tensor) -> Tensor:
        """A displacement (grid.ndim, *grid.shape) as that of the method, (B, ndim, *S)."""
        if not self.sliced:
            return displacement[None]
        return displacement[1:].movedim(1, 0).contiguous()  # slices keep to themselves

    def world_field(self, displacement: Tensor) -> NDArray[np.float32]:
        """A method's displacement as LPS mm on the fixed grid, (*fixed.shape, ndim)."""
        return to_world_field(self.stack(displacement), self.grid, self.fixed, self.taper)

    def network_displacement(self, field: NDArray[np.floating]) -> Tensor:
        """A field in LPS mm on the fixed grid as displacement (B, ndim, *S) of the network."""
        return self.unstack(to_network_displacement(field, self.fixed, self.grid))

    def world_affine(self, prediction: Prediction) -> Matrix:
        """The whole affine part, LPS mm: the method's own (if any), then the initial one."""
        if prediction.affine is None:  # as with slices, each of which may have its own
            return self.initial
        own = prediction.affine[0].detach().cpu().double().numpy()
        return self.initial @ affine_to_world(own, self.grid)


def prepare_pair(
    fixed: Volume,
    moving: Volume,
    preparation: Preparation,
    *,
    slices: int | None = None,
    initial: Matrix | None = None,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    fixed_labels: Volume | None = None,
    moving_labels: Volume | None = None,
    fixed_points: NDArray[np.float64] | None = None,
    moving_points: NDArray[np.float64] | None = None,
    roi: Volume | None = None,
    modalities: Mapping[str, str] | None = None,
) -> Prepared:
    """Bring a fixed and a moving image onto the grid that the preparation asks for.

    ``slices``: tensor axis of the fixed volume along which a 2-D network goes slice by slice.
    ``initial``: world transform, fixed to moving points (identity if None). Masks, labels and
    points belong to their image; points are (N, ndim), LPS mm. ``modalities`` may name those of
    ``"fixed"`` and ``"moving"``.
    Raises GeometryError when the dimensions of images and preparation do not fit.
    """
    _check_dimensions(fixed, moving, preparation, slices)
    start = np.eye(fixed.ndim + 1) if initial is None else initial
    masks = [_on_grid_of(fixed_mask, fixed), _on_grid_of(moving_mask, moving)]
    images = [fixed, moving]
    if preparation.intensity_on == "image":
        images = normalise(images, preparation.intensity, masks)
    anchor = find_anchor(images[0], images[1], preparation, start, fixed_mask, roi)
    stack_axis = None if slices is None else fixed.ndim - 1 - slices
    grid = network_grid(fixed.grid, preparation, anchor, stack_axis)
    still = np.eye(fixed.ndim + 1)
    boxes = [_sample(images[0], grid, still), _sample(images[1], grid, start)]
    if preparation.intensity_on == "box":
        boxes = [v.array for v in _normalised_boxes(boxes, grid, preparation)]
    extra = dict(modalities or {})
    samples = [
        _to_sample(box, grid, through, mask, labels, points, slices is not None, extra.get(which))
        for box, through, mask, labels, points, which in (
            (boxes[0], still, fixed_mask, fixed_labels, fixed_points, "fixed"),
            (boxes[1], start, moving_mask, moving_labels, moving_points, "moving"),
        )
    ]
    tile = _whole(preparation.size) if preparation.outside == "tiles" else None
    return Prepared(
        Pair(samples[0], samples[1]), grid, fixed.grid, start, slices is not None,
        preparation.taper, tile, preparation.overlap,
    )  # fmt: skip


def _whole(size: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(n for n in size if n is not None)


def _check_dimensions(
    fixed: Volume, moving: Volume, preparation: Preparation, slices: int | None
) -> None:
    if fixed.ndim != moving.ndim:
        raise GeometryError(
            f"{fixed.name} is {fixed.ndim}-D and {moving.name} is {moving.ndim}-D; "
            "both images must have the same dimension"
        )
    wanted = fixed.ndim if slices is None else fixed.ndim - 1
    if wanted != preparation.ndim:
        raise GeometryError(
            f"{fixed.name} is {fixed.ndim}-D, but these weights are for {preparation.ndim}-D images"
        )


def _on_grid_of(mask: Volume | None, image: Volume) -> NDArray[np.bool_] | None:
    """A mask as booleans on the image's own grid."""
    if mask is None:
        return None
    if mask.grid.same_as(image.grid):
        return mask.array > 0
    return resample(mask, image.grid, interpolation="nearest") > 0


def _sample(image: Volume, grid: Grid, through: Matrix) -> NDArray[np.float32]:
    return resample(_smoothed(image, grid), grid, [through]).astype(np.float32, copy=False)


def _smoothed(image: Volume, grid: Grid) -> Volume:
    """Smooth before sampling more coarsely, so that fine texture does not alias.

    The Gaussian has the variance that box averaging over the new voxel would add. ``grid`` may be
    turned against the image: each of the image's axes takes the step of the axis nearest to it.
    """
    cosines = np.abs(grid.direction_matrix.T @ image.grid.direction_matrix)
    steps = [grid.spacing[axis] for axis in np.argmax(cosines, axis=0)]  # of the nearest axis
    ratios = [step / own for step, own in zip(steps, image.grid.spacing, strict=True)]
    sigma = [float(np.sqrt(max(r * r - 1, 0) / 12)) for r in ratios]
    sigma = [s if s > 0.3 else 0.0 for s in sigma]
    if not any(sigma):
        return image
    tensor = torch.from_numpy(np.asarray(image.array, dtype=np.float32))[None, None]
    return image.with_array(gaussian(tensor, sigma[::-1])[0, 0].numpy())


def _normalised_boxes(
    boxes: list[NDArray[np.float32]], grid: Grid, preparation: Preparation
) -> list[Volume]:
    volumes = [Volume(box, grid) for box in boxes]
    return normalise(volumes, preparation.intensity, [None, None])


def _to_sample(
    image: NDArray[np.float32],
    grid: Grid,
    through: Matrix,
    mask: Volume | None,
    labels: Volume | None,
    points: NDArray[np.float64] | None,
    sliced: bool,
    modality: str | None,
) -> Sample:
    def tensor(array: NDArray[Any]) -> Tensor:
        t = torch.from_numpy(np.ascontiguousarray(array))
        return t[:, None] if sliced else t[None, None]

    def nearest(volume: Volume) -> NDArray[Any]:
        return resample(volume, grid, [through], "nearest")

    spacing = tuple(reversed(grid.spacing))
    return Sample(
        image=tensor(image),
        spacing=spacing[1:] if sliced else spacing,
        mask=None if mask is None else tensor((nearest(mask) > 0).astype(np.float32)),
        labels=None if labels is None else tensor(nearest(labels).astype(np.int64)),
        points=None if points is None or sliced else _to_voxels(points, grid, through),
        modality=modality,
        directions=axis_directions(grid)[1:] if sliced else axis_directions(grid),
    )


def _to_voxels(points: NDArray[np.float64], grid: Grid, through: Matrix) -> Tensor:
    """World points as voxels of the network's grid, (1, N, ndim) in tensor axis order."""
    matrix = grid.world_to_index @ np.linalg.inv(through)
    index = transform_points(points, [matrix])
    return torch.from_numpy(np.ascontiguousarray(index[:, ::-1])).float()[None]


def as_preparation(config: Mapping[str, Any]) -> Preparation:
    """The Preparation stored in a preset or config.json. Raises WeightsError for a bad one."""
    if "preparation" not in config:
        raise WeightsError("config.json of the weights: it has no entry 'preparation'")
    try:
        return Preparation.model_validate(config["preparation"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("preparation", *first["loc"]))
        raise WeightsError(f"config.json of the weights: {where}: {first['msg']}") from error
