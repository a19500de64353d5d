"""Pairs with known motion, and the formulations of instance optimisation."""

from __future__ import annotations

import torch

from regtool.api import Context, Pair, Sample
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import warp


def context(**hooks) -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), **hooks)


def textured(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    image = gaussian(noise, 2.0)
    return (image - image.min()) / (image.max() - image.min())


def pair_with(displacement: torch.Tensor, mask: torch.Tensor | None = None) -> Pair:
    shape = tuple(displacement.shape[2:])
    moving = textured(shape)
    fixed = warp(moving, displacement)
    spacing = (1.0,) * len(shape)
    return Pair(Sample(fixed, spacing, mask=mask), Sample(moving, spacing))


FORMS = {
    "compositive": {"update_sigma": 1.5, "total_sigma": 0.0},
    "symmetric": {"update_sigma": 1.5, "total_sigma": 0.0, "symmetric": True},
    "displacement": {"formulation": "displacement", "smoothness": 0.05, "rate": 0.1},
    "velocity": {"formulation": "velocity", "smoothness": 0.05, "rate": 0.1},
}


def wave(shape: tuple[int, ...], size: float = 2.0, seed: int = 3) -> torch.Tensor:
    """A smooth random displacement whose longest component has ``size`` voxels."""
    noise = torch.randn(1, len(shape), *shape, generator=torch.Generator().manual_seed(seed))
    true = gaussian(noise, [min(6.0, n / 4) for n in shape])
    true = true * (size / true.abs().max())
    if len(shape) == 3:
        true[:, 0] *= 0.3
    return true


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    """What is left of the true displacement, away from the border."""
    inner = (slice(None), slice(None), *(slice(3, -3) for _ in true.shape[2:]))
    return float((found - true)[inner].norm() / true[inner].norm())
