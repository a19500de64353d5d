"""One training step: the noise of the fixed image, and the registration it leads to, together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regtool.api.diffusion import Draw, draw
from regtool.api.losses import local_ncc, mse
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
from regtool_diffusemorph.images import prepared
from regtool_diffusemorph.model import SCHEDULE, DiffuseMorph

SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ncc": partial(local_ncc, window=9),
    "mse": mse,
}

PADDINGS: tuple[Literal["zeros", "border"], ...] = ("zeros", "border")
"""What lies outside the moving image."""

LOW = 200
"""Steps below this one are those a synthetic image passes through."""

_STILL_SHARE = 0.25


class JointLoss:
    """``noise error + lambda (similarity + smoothness R(u))`` (Kim et al. 2022, equations 5 to 8).

    The registration's gradient flows into the score network through the predicted noise. The paper
    has steps uniform over the schedule, local correlation and nothing else. The rest helps short
    trainings, all off in the preset ``paper``: ``clean`` is the share of examples that are as
    registration has them (t = 0, no noise, no noise error); ``focus`` the share of the others
    whose step is below 200, where synthetic images begin; ``second_look`` how often a batch is what
    a second pass would see; ``units`` ``mm`` takes the smoothness of the field in millimetres, so
    that thick slices may move apart; ``teacher`` weights, within lambda, the mean distance (voxels)
    from what instance optimisation finds for the batch; ``still`` weights the mean square (voxels)
    of the field that comes from no noise at all, so that eta = 0 stands still.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.similarity = SIMILARITIES[choice(settings, "similarity", SIMILARITIES)]
        self.weight = float(settings["lambda"])
        self.smoothness = float(settings["smoothness"])
        older = {"units": "voxels", "padding": "border", "teacher": 0.0}  # absent in some runs
        settings = {**older, **settings}
        self.units = choice(settings, "units", UNITS)
        self.padding = choice(settings, "padding", PADDINGS)
        self.teacher = float(settings["teacher"])
        self.clean, self.focus = float(settings["clean"]), float(settings["focus"])
        self.second_look, self.still = float(settings["second_look"]), float(settings["still"])

    def __call__(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        """The terms for one batch of images (B, 1, *S) in [0, 1]."""
        assert isinstance(module, DiffuseMorph)
        random, before = context.generator, None
        if chance(random, self.second_look):
            with torch.no_grad():
                _, before = module.looks(pair.moving.image, pair.fixed.image, 1)
                pair = second_look(pair, before)
        (m, f), crop = prepared(pair.moving.image, pair.fixed.image)
        drawn = self.draw(f, random)
        found = module.noise(m, f, drawn.state(SCHEDULE, f), drawn.t)
        u, field = module.deform(m, found)
        warped = warp(pair.moving.compared, crop(u), padding=self.padding)
        rough = roughness(crop(field), pair, self.units)
        terms = {
            "noise": drawn.error(found),
            "similarity": self.weight * self.similarity(pair.fixed.compared, warped),
            "smoothness": self.weight * self.smoothness * rough,
        }
        if self.teacher > 0:
            apart = teacher_distance(crop(u), pair, context)
            terms["teacher"] = self.weight * self.teacher * apart
        if self.still > 0:
            terms["still"] = self.still * _from_no_noise(module, m, random)
        return StepOutput(terms, Prediction(displacement=whole_way(before, crop(u))))

    def draw(self, fixed: Tensor, generator: torch.Generator) -> Draw:
        """Steps and noise for a batch like ``fixed`` (B, 1, *S)."""
        return draw(SCHEDULE, fixed, generator, self.clean, self.focus, LOW)


def _from_no_noise(module: DiffuseMorph, moving: Tensor, generator: torch.Generator) -> Tensor:
    """Mean square of the field at eta = 0, over a quarter of the examples."""
    drawn = torch.rand(len(moving), generator=generator, device=generator.device)
    chosen = drawn < _STILL_SHARE
    if not bool(chosen.any()):
        return moving.new_zeros(())
    part = moving[chosen]
    field = module.deform(part, torch.zeros_like(part))[1]
    return field.square().mean() * (len(part) / (_STILL_SHARE * len(moving)))
