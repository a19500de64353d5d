"""Losses and training of both methods; 3-D perhaps after 2-D on the same slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.nn import pad_to_multiple
from regtool.api.refine import teacher_distance
from regtool.api.train import (
    Context,
    Pair,
    Prediction,
    Stage,
    StepOutput,
    choice,
    diffusion,
    local_ncc,
    mse,
    registration_stages,
    velocity_kl,
    warp,
)
from regtool_voxelmorph.network import VARIANTS, VoxelMorph, VoxelMorphDiff, build, build_diff

SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ncc": local_ncc, "mse": mse}

POOLED = ("unet.down",)
"""Where the variant ``default`` halves by pooling; the others do by strides."""

Step = Callable[[nn.Module, Pair, Context], StepOutput]


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """VoxelMorph: the stage ``registration``, after ``slices`` if the preset asks."""
    _check(preset)
    return registration_stages(preset["training"], build, _loss, pooled=POOLED)


def recipe_diff(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """VoxelMorph-diff: the same stages."""
    _check(preset)
    return registration_stages(preset["training"], build_diff, _loss_diff, pooled=POOLED)


def _check(preset: Mapping[str, Any]) -> None:
    """Refuse a word that no network knows before any data are read. Raises UsageError."""
    choice(preset["network"], "variant", VARIANTS, within="network")


def _loss(settings: Mapping[str, Any]) -> Step:
    """Similarity + smoothness * diffusion (Balakrishnan 2019, equation 3).

    ``teacher``, which the paper does not have, weights the mean distance (voxels) from what
    instance optimisation finds for the batch.
    """
    similarity = SIMILARITIES[choice(settings, "similarity", SIMILARITIES)]
    weight = float(settings["smoothness"])
    teacher = float(settings.get("teacher", 0.0))  # absent in older runs

    def step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        assert isinstance(module, VoxelMorph)
        u = module.displacement(pair.moving.image, pair.fixed.image)
        terms = {
            "similarity": similarity(pair.fixed.compared, warp(pair.moving.compared, u)),
            "smoothness": weight * diffusion(u),
        }
        if teacher > 0:
            terms["teacher"] = teacher * teacher_distance(u, pair, context)
        return StepOutput(terms, Prediction(displacement=u))

    return step


def _loss_diff(settings: Mapping[str, Any]) -> Step:
    """MSE / sigma^2 and the divergence from a smooth prior (Dalca 2019, equation 9).

    The velocity is sampled in training and its mean is used at registration. As in the authors'
    code the likelihood term is the mean over voxels divided by sigma^2.
    """
    sigma, prior = float(settings["sigma"]), float(settings["prior"])

    def step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        assert isinstance(module, VoxelMorphDiff)
        moving, crop = pad_to_multiple(pair.moving.image, module.unet.multiple)
        fixed, _ = pad_to_multiple(pair.fixed.image, module.unet.multiple)
        mean, log_variance = module.velocity(moving, fixed)
        noise = torch.randn(mean.shape, generator=context.generator, device=mean.device)
        velocity = mean + torch.exp(0.5 * log_variance) * noise
        u = crop(module.expand(velocity, tuple(fixed.shape[2:])))
        warped = warp(pair.moving.compared, u)
        terms = {
            "likelihood": mse(pair.fixed.compared, warped) / sigma**2,
            "divergence": velocity_kl(mean, log_variance, prior),
        }
        return StepOutput(terms, Prediction(displacement=u))

    return step
