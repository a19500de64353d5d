"""A network that answers with one shift, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Optimiser, Pair, Prediction, Stage, StepOutput
from regtool.api.losses import local_ncc
from regtool.api.spatial import warp
from regtool_example.options import SlideOptions


class Slide(nn.Module):
    """Where the bright and dark parts of both images lie, and from that how far they are apart.

    A few maps are made of each image by the same convolutions; the shift is a learnt sum of the
    distances between their centres of mass.
    """

    def __init__(self, ndim: int, width: int = 8) -> None:
        super().__init__()
        convolution = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.maps = nn.Sequential(
            convolution(1, width, 3, padding=1), nn.LeakyReLU(0.2), convolution(width, width, 1)
        )
        self.shares = nn.Parameter(torch.full((width,), 1 / width))

    def displacement(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *S) in voxels from two images (B, 1, *S) in [0, 1]."""
        apart = self._centres(moving) - self._centres(fixed)  # (B, width, ndim)
        shift = torch.einsum("bwd,w->bd", apart, self.shares)
        shape = fixed.shape[2:]
        return shift.reshape(*shift.shape, *[1] * len(shape)).expand(*shift.shape, *shape)

    def forward(self, pair: Pair, options: SlideOptions, context: Context) -> Prediction:
        """Answer with one displacement everywhere."""
        displacement = self.displacement(pair.fixed.image, pair.moving.image)
        return Prediction(displacement=options.share * displacement)

    def _centres(self, image: Tensor) -> Tensor:
        """Centres of mass (B, width, ndim) in voxels of the maps of an image."""
        maps: Tensor = self.maps(image).flatten(2).square() + 1e-6
        maps = maps / maps.sum(2, keepdim=True)
        axes = [torch.arange(n, device=image.device, dtype=maps.dtype) for n in image.shape[2:]]
        places = torch.stack([g.flatten() for g in torch.meshgrid(*axes, indexing="ij")], dim=1)
        return maps @ places


def build(config: Mapping[str, Any]) -> nn.Module:
    """Make the network of a preset, or of the config.json beside weights."""
    return Slide(config["ndim"], **config["network"])


def recipe(config: Mapping[str, Any]) -> tuple[Stage, ...]:
    """One stage and one optimiser; local correlation is all that is asked for."""
    training = config["training"]

    def step(network: nn.Module, pair: Pair, context: Context) -> StepOutput:
        assert isinstance(network, Slide)
        displacement = network.displacement(pair.fixed.image, pair.moving.image)
        warped = warp(pair.moving.image, displacement)
        terms = {"similarity": local_ncc(pair.fixed.image, warped)}
        return StepOutput(terms, Prediction(displacement=displacement))

    return (
        Stage(
            name="network",
            build=lambda config, upstream: build(config),
            step=step,
            optimisers=(Optimiser(lr=training["lr"]),),
            steps=training["steps"],
            batch=training["batch"],
        ),
    )
