"""Losses and training of both methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.train import (
    Context,
    Optimiser,
    Pair,
    Prediction,
    Sample,
    Schedule,
    Stage,
    StepOutput,
    diffusion,
    local_ncc,
    mse,
    velocity_kl,
    warp,
)
from regtool_voxelmorph.inflate import inflate
from regtool_voxelmorph.network import VoxelMorph, VoxelMorphDiff, build, build_diff

SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ncc": local_ncc, "mse": mse}


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """VoxelMorph: similarity + smoothness * diffusion (Balakrishnan 2019, equation 3)."""
    settings = preset["training"]
    similarity, weight = SIMILARITIES[settings["similarity"]], float(settings["smoothness"])

    def step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        assert isinstance(module, VoxelMorph)
        fixed, moving = pair.fixed.image, pair.moving.image
        u = module.displacement(moving, fixed)
        terms = {
            "similarity": similarity(fixed, warp(moving, u)),
            "smoothness": weight * diffusion(u),
        }
        return StepOutput(terms, Prediction(displacement=u))

    return _stages(settings, build, step)


def recipe_diff(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """VoxelMorph-diff: MSE / sigma^2 and the divergence from a smooth prior (Dalca 2019, eq. 9).

    The velocity is sampled in training and its mean is used at registration. As in the authors'
    code the likelihood term is the mean over voxels divided by sigma^2.
    """
    settings = preset["training"]
    sigma, prior = float(settings["sigma"]), float(settings["prior"])

    def step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        assert isinstance(module, VoxelMorphDiff)
        fixed, moving = pair.fixed.image, pair.moving.image
        mean, log_variance = module.velocity(moving, fixed)
        noise = torch.randn(mean.shape, generator=context.generator, device=mean.device)
        velocity = mean + torch.exp(0.5 * log_variance) * noise
        u = module.expand(velocity, tuple(fixed.shape[2:]))
        terms = {
            "likelihood": mse(fixed, warp(moving, u)) / sigma**2,
            "divergence": velocity_kl(mean, log_variance, prior),
        }
        return StepOutput(terms, Prediction(displacement=u))

    return _stages(settings, build_diff, step)


Build = Callable[[Mapping[str, Any]], nn.Module]
Step = Callable[[nn.Module, Pair, Context], StepOutput]


def _stages(settings: Mapping[str, Any], make: Build, step: Step) -> tuple[Stage, ...]:
    """The registration stage, after a 2-D one on the same volumes' slices if the preset asks."""
    first = settings.get("slices_first")
    if first is None:
        return (_stage("registration", settings, lambda config, upstream: make(config), step),)

    def make_flat(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        return make({**config, "ndim": 2})

    def make_solid(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        solid = make(config)
        inflate(upstream["slices"], solid)
        return solid

    def step_flat(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        return StepOutput(step(module, _slices(pair), context).terms)

    return (
        _stage("slices", {**settings, **first}, make_flat, step_flat, registers=False),
        _stage("registration", settings, make_solid, step),
    )


def _slices(pair: Pair) -> Pair:
    """A batch of volumes (B, C, z, y, x) as one of slices (B * z, C, y, x), images only."""

    def cut(sample: Sample) -> Sample:
        return Sample(sample.image.transpose(1, 2).flatten(0, 1), sample.spacing[1:])

    return Pair(cut(pair.fixed), cut(pair.moving))


def _stage(
    name: str, settings: Mapping[str, Any], make: Any, step: Step, registers: bool = True
) -> Stage:
    schedule = Schedule(**settings.get("schedule", {"kind": "constant"}))
    return Stage(
        name=name,
        build=make,
        step=step,
        optimisers=(Optimiser(lr=float(settings["lr"]), schedule=schedule),),
        steps=int(settings["steps"]),
        batch=int(settings["batch"]),
        ema=settings.get("ema"),
        registers=registers,
    )
