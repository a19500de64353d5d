"""Augmentation of pairs for training: the same geometry for both images, contrast for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor
from torch.nn import functional

from regtool.data.augment_contrast import biased, synthesised, transferred
from regtool.data.augment_elastic import stretched
from regtool.data.draws import symmetric as _symmetric
from regtool.data.draws import uniform as _uniform
from regtool.plugins.exchange import Pair, Sample
from regtool.spatial.smooth import gaussian

Axis = Literal["x", "y", "z"]


class Augment(BaseModel):
    """How training pairs are varied; the defaults change nothing.

    Geometry is common to the two images, so the true deformation between them is carried along;
    only ``elastic`` deforms one of them. Intensities are drawn for each image. Ranges are symmetric
    about no change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: tuple[Axis, ...] = Field(
        default=(), description="axes that may be mirrored, each by itself"
    )

    @field_validator("flip", mode="before")
    @classmethod
    def _split(cls, axes: object) -> object:
        """``x,y`` as a command line has it."""
        return [axis.strip() for axis in axes.split(",")] if isinstance(axes, str) else axes

    flip_probability: float = Field(default=0.5, ge=0, le=1)
    transpose: float = Field(
        default=0.0, ge=0, le=1, description="probability of swapping x and y (square images only)"
    )
    affine: float = Field(
        default=1.0, ge=0, le=1, description="probability of rotation, scaling and translation"
    )
    rotation: float = Field(
        default=0.0, ge=0, le=180, description="largest turn in the x-y plane, degrees"
    )
    scaling: float = Field(default=0.0, ge=0, lt=1, description="largest |log| of the scale factor")
    translation: float = Field(default=0.0, ge=0, description="largest shift along each axis, mm")
    elastic: float = Field(
        default=0.0, ge=0, description="largest smooth deformation of the fixed image, mm"
    )
    elastic_probability: float = Field(default=1.0, ge=0, le=1)
    gamma: float = Field(default=0.0, ge=0, description="largest |log| of the exponent")
    contrast: float = Field(
        default=0.0, ge=0, lt=1, description="largest relative change about the mean"
    )
    brightness: float = Field(
        default=0.0, ge=0, lt=1, description="largest shift of [0, 1] intensities"
    )
    noise: float = Field(default=0.0, ge=0, lt=1, description="largest standard deviation added")
    synthesis: float = Field(
        default=0.0, ge=0, le=1, description="probability of a contrast invented from the labels"
    )
    transfer: float = Field(
        default=0.0, ge=0, le=1, description="otherwise: probability of a random intensity curve"
    )
    bias: float = Field(default=0.0, ge=0, description="largest |log| of a smooth shading")
    blur: float = Field(default=0.0, ge=0, description="largest SD of a blur, voxels")

    @property
    def invents(self) -> bool:
        """Whether images can get contrasts that are not theirs."""
        return self.synthesis > 0 or self.transfer > 0

    @property
    def moves(self) -> bool:
        """Whether rotation, scaling or translation can happen."""
        return self.affine > 0 and (self.rotation > 0 or self.scaling > 0 or self.translation > 0)


def augment(pair: Pair, settings: Augment, generator: torch.Generator) -> Pair:
    """A varied copy of ``pair``; the same generator state gives the same copy.

    Images are sampled linearly, labels and masks nearest; outside the grid images repeat their
    border, labels and masks are 0. Every batch element is drawn by itself, but transposition,
    which swaps the spacing, concerns the whole batch. Points move along, and so does the pair's
    field: it is read at the new places, and its vectors turn with the axes.

    Where contrasts may be invented (``synthesis``, ``transfer``), each image has its own, and
    ``original`` keeps it as it was before any change of intensity: the network is to see through
    the contrast, the loss compares what is comparable. The labels serve the images alone.
    """
    pair = _flipped(pair, settings, generator)
    pair = _transposed(pair, settings, generator)
    if settings.elastic:
        pair = stretched(pair, settings.elastic, settings.elastic_probability, generator)
    if settings.moves:
        pair = _moved(pair, settings, generator)
    return Pair(
        _recoloured(pair.fixed, settings, generator),
        _recoloured(pair.moving, settings, generator),
        pair.field,
    )


def _ndim(sample: Sample) -> int:
    return sample.image.ndim - 2


def _spatial(sample: Sample, change: Callable[[Tensor], Tensor]) -> Sample:
    """The sample with ``change`` made to image, mask and labels (not to points)."""
    return replace(
        sample,
        image=change(sample.image),
        mask=None if sample.mask is None else change(sample.mask),
        labels=None if sample.labels is None else change(sample.labels),
    )


def _flipped(pair: Pair, settings: Augment, generator: torch.Generator) -> Pair:
    ndim = _ndim(pair.fixed)
    for name in settings.flip:
        axis = ndim - 1 - "xyz".index(name)
        chosen = _uniform(generator, len(pair.fixed.image)) < settings.flip_probability
        if axis < 0 or not chosen.any():
            continue
        rows = chosen.nonzero()[:, 0].to(pair.fixed.image.device)
        field = None if pair.field is None else _mirror_field(pair.field, rows, axis)
        pair = Pair(_mirror(pair.fixed, rows, axis), _mirror(pair.moving, rows, axis), field)
    return pair


def _mirror_field(field: Tensor, rows: Tensor, axis: int) -> Tensor:
    turned = field[rows].flip(axis + 2)
    turned[:, axis] = -turned[:, axis]
    return field.index_copy(0, rows, turned)


def _mirror(sample: Sample, rows: Tensor, axis: int) -> Sample:
    def change(tensor: Tensor) -> Tensor:
        if len(rows) == len(tensor):
            return tensor.flip(axis + 2)
        return tensor.index_copy(0, rows, tensor[rows].flip(axis + 2))

    result = _spatial(sample, change)
    if sample.points is not None:
        points = sample.points.clone()
        points[rows, :, axis] = sample.image.shape[axis + 2] - 1 - points[rows, :, axis]
        result.points = points
    return result


def _transposed(pair: Pair, settings: Augment, generator: torch.Generator) -> Pair:
    if settings.transpose == 0:
        return pair
    chosen = bool(_uniform(generator, 1) < settings.transpose)
    height, width = pair.fixed.image.shape[-2:]
    if not chosen or height != width:
        return pair
    field = pair.field
    if field is not None:
        order = [*range(field.shape[1] - 2), field.shape[1] - 1, field.shape[1] - 2]
        field = field.transpose(-1, -2)[:, order].contiguous()
    return Pair(_swap_axes(pair.fixed), _swap_axes(pair.moving), field)


def _swap_axes(sample: Sample) -> Sample:
    result = _spatial(sample, lambda tensor: tensor.transpose(-1, -2).contiguous())
    *rest, height, width = sample.spacing
    result.spacing = (*rest, width, height)
    if sample.points is not None:
        order = [*range(_ndim(sample) - 2), _ndim(sample) - 1, _ndim(sample) - 2]
        result.points = sample.points[..., order]
    return result


def _moved(pair: Pair, settings: Augment, generator: torch.Generator) -> Pair:
    """One linear and one nearest sampling of all tensors through a common affine map."""
    fixed, moving = pair.fixed, pair.moving
    ndim, batch = _ndim(fixed), len(fixed.image)
    linear = _affine_maps(ndim, batch, settings, generator)
    shift = _symmetric(generator, settings.translation, batch, ndim)
    kept = _uniform(generator, batch) >= settings.affine
    linear[kept] = torch.eye(ndim)
    shift[kept] = 0
    shape = torch.tensor(fixed.image.shape[2:])
    shift[:, shape == 1] = 0  # a single slice cannot leave its plane
    spacing = torch.tensor(fixed.spacing, dtype=torch.float32)
    # From mm about the centre to voxels: where in the input each output voxel is sampled.
    matrix = linear * spacing / spacing[:, None]
    offset = shift / spacing
    half = (shape - 1).clamp(min=1) / 2
    grid = _sampling_grid(
        (matrix * half / half[:, None]).to(fixed.image), (offset / half).to(fixed.image), shape
    )
    images = [fixed.image, moving.image]
    if pair.field is not None:
        images.append(pair.field.to(fixed.image))
    new_images = _sample(images, grid, "bilinear", "border")
    discrete = [t for s in (fixed, moving) for t in (s.mask, s.labels) if t is not None]
    new_discrete = iter(_sample(discrete, grid, "nearest", "zeros") if discrete else [])
    centre = (shape - 1) / 2

    def rebuilt(sample: Sample, image: Tensor) -> Sample:
        result = replace(sample, image=image)
        result.mask = None if sample.mask is None else next(new_discrete)
        result.labels = None if sample.labels is None else next(new_discrete)
        if sample.points is not None:
            middle, inverse = centre.to(sample.points), torch.linalg.inv(matrix).to(sample.points)
            about = sample.points - middle - offset.to(sample.points)[:, None]
            result.points = about @ inverse.transpose(1, 2) + middle
        return result

    field = None
    if pair.field is not None:
        # moving(x + u) was fixed; with x = A y + b in both images that is A^-1 u in the new ones.
        back = torch.linalg.inv(matrix).to(new_images[2])
        field = (back @ new_images[2].flatten(2)).reshape(new_images[2].shape)
    return Pair(rebuilt(fixed, new_images[0]), rebuilt(moving, new_images[1]), field)


def _affine_maps(ndim: int, batch: int, settings: Augment, generator: torch.Generator) -> Tensor:
    """(B, ndim, ndim) in mm, tensor axis order: scaling, and rotation in the x-y plane."""
    angle = _symmetric(generator, math.radians(settings.rotation), batch)
    scale = torch.exp(_symmetric(generator, settings.scaling, batch))
    maps = torch.eye(ndim).repeat(batch, 1, 1)
    maps[:, -1, -1] = maps[:, -2, -2] = torch.cos(angle)
    maps[:, -2, -1] = torch.sin(angle)
    maps[:, -1, -2] = -torch.sin(angle)
    return maps * scale[:, None, None]


def _sampling_grid(matrix: Tensor, offset: Tensor, shape: Tensor) -> Tensor:
    """Grid for grid_sample, (B, *S, ndim) in x, y, z order, of an affine map of [-1, 1] axes.

    ``matrix`` (B, ndim, ndim) and ``offset`` (B, ndim) are in tensor axis order.
    """
    ndim, ones = len(shape), [1] * len(shape)
    grid = offset.flip(1).view(-1, *ones, ndim)
    for axis, n in enumerate(shape.tolist()):
        line = torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1)
        size = [*ones, 1]
        size[axis] = n
        column = matrix[:, :, axis].flip(1).view(-1, *ones, ndim)
        grid = grid + column * line.to(matrix).view(size)
    return grid


def _sample(tensors: list[Tensor], grid: Tensor, mode: str, padding: str) -> list[Tensor]:
    joined = torch.cat([t.to(grid.dtype) for t in tensors], 1)
    sampled = functional.grid_sample(
        joined, grid, mode=mode, padding_mode=padding, align_corners=True
    )
    parts = sampled.split([t.shape[1] for t in tensors], 1)
    return [part.to(t.dtype).contiguous() for part, t in zip(parts, tensors, strict=True)]


def _recoloured(sample: Sample, settings: Augment, generator: torch.Generator) -> Sample:
    image = sample.image
    if settings.invents:
        image = _invented(sample, settings, generator)
    shape = (len(image), *(1,) * (image.ndim - 1))
    changed = settings.invents
    if settings.gamma > 0:
        exponent = torch.exp(_symmetric(generator, settings.gamma, *shape)).to(image)
        image, changed = image.clamp(min=0) ** exponent, True
    if settings.contrast > 0:
        factor = 1 + _symmetric(generator, settings.contrast, *shape).to(image)
        mean = image.mean(dim=tuple(range(1, image.ndim)), keepdim=True)
        image, changed = (image - mean) * factor + mean, True
    if settings.brightness > 0:
        image, changed = image + _symmetric(generator, settings.brightness, *shape).to(image), True
    if settings.bias > 0:
        image, changed = torch.stack([biased(i, settings.bias, generator) for i in image]), True
    if settings.blur > 0:
        widths = (_uniform(generator, len(image)) * settings.blur).tolist()
        blurred = [gaussian(i[None], w) for i, w in zip(image, widths, strict=True)]
        image, changed = torch.cat(blurred), True
    if settings.noise > 0:
        sigma = (_uniform(generator, *shape) * settings.noise).to(image)
        drawn = torch.randn(image.shape, generator=generator, device=generator.device)
        image, changed = image + sigma * drawn.to(image), True
    original = sample.image if settings.invents else None
    return replace(sample, image=image.clamp(0, 1), original=original) if changed else sample


def _invented(sample: Sample, settings: Augment, generator: torch.Generator) -> Tensor:
    """Some images of the batch with contrasts that are not theirs."""
    chosen = _uniform(generator, len(sample.image), 2).tolist()
    images = []
    for number, (first, second) in enumerate(chosen):
        image = sample.image[number]
        if sample.labels is not None and first < settings.synthesis:
            image = synthesised(image, sample.labels[number], generator)
        elif second < settings.transfer:
            image = transferred(image, generator)
        images.append(image)
    return torch.stack(images)
