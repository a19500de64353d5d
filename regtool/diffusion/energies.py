"""Energies that a sampled field can be steered by: smoothness, direction, a target organ.

Each is a sum over voxels, so that its derivative at a voxel, and with it the meaning of ``scale``,
does not depend on the size of the image. They take displacements u (B, ndim, *S) in voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regtool.losses.ncc import local_ncc
from regtool.spatial.warp import warp


class Energy(Protocol):
    """Something that is lower the better a field obeys; ``value(u)`` is (B,), without the scale."""

    @property
    def scale(self) -> float: ...

    def value(self, u: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Smoothness:
    """Half the squared forward differences, summed over voxels, components and axes.

    ``spacing`` (one value a tensor axis, any unit) makes them differences per length of components
    in that length, as ``regtool.losses.diffusion`` does; without it voxels count alike.
    """

    scale: float
    spacing: tuple[float, ...] | None = None

    def weights(self, ndim: int) -> list[list[float]]:
        """The weight of ``|d_j u_i|^2`` for component i and axis j."""
        s = self.spacing or (1.0,) * ndim
        return [[(s[i] / s[j]) ** 2 for j in range(ndim)] for i in range(ndim)]

    def value(self, u: Tensor) -> Tensor:
        terms = []
        for i, row in enumerate(self.weights(u.shape[1])):
            for j, weight in enumerate(row):
                step = torch.diff(u[:, i], dim=j + 1)
                terms.append(weight / 2 * step.square().flatten(1).sum(1))
        return torch.stack(terms).sum(0)


@dataclass(frozen=True)
class Direction:
    """``1 - cos`` of the angle between displacement and ``vector``, summed over the mask.

    ``vector`` (ndim,) along tensor axes: in mm where ``spacing`` (mm, one value a tensor axis) is
    given, otherwise in voxels; its length does not matter. ``mask`` (B or 1, 1, *S), weights; None
    is everywhere. Displacements much shorter than ``soft`` (same unit) have no direction yet: the
    cosine is ``u.d / sqrt(|u|^2 + soft^2)``, whose derivative stays finite.
    """

    scale: float
    vector: tuple[float, ...]
    mask: Tensor | None = None
    spacing: tuple[float, ...] | None = None
    soft: float = 0.5

    def __post_init__(self) -> None:
        if not any(self.vector):
            raise ValueError("the vector of a direction has no length")

    def cosine(self, u: Tensor, soft: float = 1e-6) -> Tensor:
        """The cosine at every voxel, (B, 1, *S)."""
        column = (1, -1, *[1] * (u.dim() - 2))
        if self.spacing is not None:
            u = u * u.new_tensor(self.spacing).reshape(column)
        d = u.new_tensor(self.vector).reshape(column)
        dot = (u * d).sum(1, keepdim=True) / d.norm()
        return dot / (u.square().sum(1, keepdim=True) + soft**2).sqrt()

    def mean_cosine(self, u: Tensor) -> Tensor:
        """The mean cosine inside the mask, (B,)."""
        cosine = self.cosine(u)
        weight = _weights(self.mask, cosine)
        return (cosine * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-6)

    def value(self, u: Tensor) -> Tensor:
        cosine = self.cosine(u, self.soft)
        return ((1 - cosine) * _weights(self.mask, cosine)).flatten(1).sum(1)


@dataclass(frozen=True)
class Organ:
    """Voxels of an organ that do not overlap: its mean volume times ``1 - soft Dice``.

    ``fixed`` (B or 1, 1, *S): the organ in the fixed image, 0 or 1; ``moving`` (B or 1, 1, *S): the
    signed distance in voxels from its surface in the moving image, positive inside, as
    ``surface_distance`` gives it. Warped linearly, its sign says what nearest-neighbour warping of
    the mask would, and a sigmoid of ``edge`` voxels makes that differentiable: linearly warped
    masks overlap better already where the hard ones do not yet.
    """

    scale: float
    fixed: Tensor
    moving: Tensor
    edge: float = 0.25

    @classmethod
    def of_labels(cls, scale: float, fixed: Tensor, moving: Tensor, label: int) -> Organ:
        """The organ with ``label`` in label maps (B, 1, *S).

        Raises ValueError where either map lacks the label.
        """
        for name, labels in (("fixed", fixed), ("moving", moving)):
            if not (labels == label).any():
                raise ValueError(f"label {label} is not in the {name} labels")
        distance = surface_distance((moving == label).float())
        return cls(scale, (fixed == label).float(), distance)

    def dice(self, u: Tensor) -> Tensor:
        """Soft Dice of the organ, (B,)."""
        warped = torch.sigmoid(warp(self.moving, u) / self.edge)
        fixed = self.fixed.expand_as(warped)
        both = (fixed * warped).flatten(1).sum(1)
        return 2 * both / (fixed + warped).flatten(1).sum(1).clamp(min=1e-6)

    def value(self, u: Tensor) -> Tensor:
        volume = (self.fixed.flatten(1).sum(1) + (self.moving > 0).flatten(1).sum(1)) / 2
        return volume * (1 - self.dice(u))


@dataclass(frozen=True)
class OrganImages:
    """Dissimilarity of the images inside an organ's mask in the fixed one.

    The number of voxels of the mask times ``1 - mean squared local correlation`` in windows of
    ``window`` voxels, for images (B, 1, *S). For an organ that is known in the fixed image only.
    """

    scale: float
    fixed: Tensor
    moving: Tensor
    mask: Tensor
    window: int = 9

    def value(self, u: Tensor) -> Tensor:
        warped = warp(self.moving, u)
        fixed, mask = (
            self.fixed.expand_as(warped),
            self.mask.expand(len(warped), *self.mask.shape[1:]),
        )
        each = [
            1 + local_ncc(f[None], w[None], self.window, m[None], neutral=True)
            for f, w, m in zip(fixed, warped, mask, strict=True)
        ]
        return torch.stack(each) * mask.flatten(1).sum(1)


def _weights(mask: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like) if mask is None else mask.to(like.dtype).expand_as(like)


def surface_distance(masks: Tensor, most: float = 4.0) -> Tensor:
    """Signed distance from the surface of masks (B, K, *S), in voxels, positive inside.

    The surface lies half-way between voxels inside and outside. Distances end at ``most``.
    """
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    found = torch.full(masks.shape, -most)
    for out, mask in zip(found.flatten(0, 1), masks.flatten(0, 1), strict=True):
        inside = mask.cpu().numpy() > 0
        if inside.all() or not inside.any():
            out[:] = most if inside.any() else -most
            continue
        signed = distance_transform_edt(inside) - distance_transform_edt(~inside)
        signed -= np.sign(signed) / 2
        out[:] = torch.from_numpy(signed.clip(-most, most).astype(np.float32))
    return found.to(masks.device)
