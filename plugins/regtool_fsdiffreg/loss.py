"""One training step: the noise of the fixed image, and the registration that is guided by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.diffusion import Draw, draw
from regtool.api.losses import local_ncc_map
from regtool.api.refine import teacher_distance
from regtool.api.train import (
    UNITS,
    Context,
    Pair,
    Prediction,
    StepOutput,
    chance,
    choice,
    roughness,
    second_look,
    warp,
    whole_way,
)
from regtool_fsdiffreg.model import SCHEDULE, FSDiffReg, score_weight


def _against_correlation(fixed: Tensor, warped: Tensor) -> Tensor:
    return -local_ncc_map(fixed, warped, window=9)


def _squared_difference(fixed: Tensor, warped: Tensor) -> Tensor:
    return (fixed - warped).square()


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ncc": _against_correlation,
    "mse": _squared_difference,
}
"""Maps (B, 1, *S) of what is to be small, from images in [0, 1]."""


class GuidedLoss:
    """Noise error + a score-weighted similarity + smoothness (Qin and Li 2023; METHODS 4.3).

    The weight of a voxel is ``sigmoid(S) ** gamma``, S being the predicted noise (score-wise
    guidance, SDG). As released, S is part of the graph: the network can lower the loss by raising S
    where the images agree, against the noise error. ``detach_score`` ends that; ``sdg`` off weights
    all voxels with 1, which about doubles the similarity, since the weights of normal noise have a
    mean of a half at gamma 1.

    The rest helps short trainings, all off in the preset ``paper``: ``clean`` is the share of
    examples that are as registration has them (t = 0, no noise, no noise error; their weight is
    that of S = 0); ``second_look`` how often a batch is what a second pass would see; ``units``
    ``mm`` takes the smoothness of the field in millimetres, so that thick slices may move apart;
    ``teacher`` weights the mean distance (voxels) from what instance optimisation finds.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.similarity = SIMILARITIES[choice(settings, "similarity", SIMILARITIES)]
        self.similar = float(settings["lambda_similarity"])
        self.smooth = float(settings["lambda_smoothness"])
        self.sdg, self.gamma = bool(settings["sdg"]), float(settings["gamma"])
        self.detach = bool(settings["detach_score"])
        self.units = choice(settings, "units", UNITS)
        self.clean = float(settings["clean"])
        self.second_look = float(settings["second_look"])
        self.teacher = float(settings["teacher"])

    def __call__(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        """The terms for one batch of images (B, 1, *S) in [0, 1]."""
        assert isinstance(module, FSDiffReg)
        random, before = context.generator, None
        if chance(random, self.second_look):
            with torch.no_grad():
                before = module.look(pair.moving.image, pair.fixed.image).displacement
                pair = second_look(pair, before)
        fixed, moving = pair.fixed.image, pair.moving.image
        image = module.prepared(fixed)
        drawn = draw(SCHEDULE, image, random, self.clean)
        found = module.look(moving, fixed, drawn.state(SCHEDULE, image), drawn.t)
        u, noise = found.displacement, found.noise
        warped = warp(pair.moving.compared, u, padding="zeros")
        apart = self.similarity(pair.fixed.compared, warped)
        terms = {
            "noise": drawn.error(found.padded_noise),
            "similarity": self.similar * (self.weight(noise, drawn) * apart).mean(),
            "smoothness": self.smooth * roughness(found.field, pair, self.units),
        }
        if self.teacher > 0:
            terms["teacher"] = self.teacher * teacher_distance(u, pair, context)
        return StepOutput(terms, Prediction(displacement=whole_way(before, u)))

    def weight(self, noise: Tensor, drawn: Draw) -> Tensor:
        """What each voxel's similarity counts, (B, 1, *S), for predicted noise of that form."""
        if not self.sdg:
            return torch.ones_like(noise)
        score = noise.detach() if self.detach else noise
        return score_weight(torch.where(drawn.noisy, score, 0.0), self.gamma)
