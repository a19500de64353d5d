"""One training step: the noise of a noised field, and what the clean field it implies is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regtool.api.diffusion import add_noise
from regtool.api.losses import ssim_loss
from regtool.api.spatial import gaussian
from regtool.api.train import (
    UNITS,
    Context,
    Pair,
    Prediction,
    StepOutput,
    choice,
    mse,
    roughness,
    warp,
)
from regtool_diffusereg.model import SCHEDULE, DiffuseReg

WEIGHTINGS = ("none", "abar")
PADDINGS: tuple[Literal["zeros", "border"], ...] = ("zeros", "border")

LEAST = 300
"""Step below which a spoilt field is not shown: there the state decides the estimate."""

WIDE, WRONG = 3.0, 0.4
"""Width in voxels and largest SD of the errors of spoilt fields."""


class DenoisingLoss:
    """``noise error + similarity (1 - SSIM) + smoothness R`` (METHODS 5.3), the latter two of the
    displacement that the clean estimate stands for.

    ``pair.field`` is the clean field phi0; without one it is zero, so that similarity and
    smoothness alone teach (the paper's ablation without phi0, as it is read here).

    Errors of the predicted noise are amplified 151 times in the clean estimate at the last of 2000
    steps. Three safeguards, none of them published: ``clamp`` keeps the estimate within so many SD;
    ``weighting`` ``abar`` weights both terms with the signal's variance; ``skip_above`` leaves them
    out above that step.

    The rest helps short trainings, all off in the preset ``paper``: ``lambda_clean`` weights the
    mean squared error of the clean estimate, in SD; ``focus`` is the share of examples whose step
    is at least ``high``, where only the images tell what the field is; ``imperfect`` the share
    whose state is that of a part of the field with smooth errors, as a sampling has it after its
    first steps, while the clean field stays the goal (they have no noise error); ``units`` ``mm``
    takes the smoothness of the field in millimetres; ``padding`` ``border`` repeats the image's
    edge instead of grey.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.noise, self.clean = (float(settings[f"lambda_{n}"]) for n in ("noise", "clean"))
        self.similarity = float(settings["lambda_similarity"])
        self.smoothness = float(settings["lambda_smoothness"])
        self.units = choice(settings, "units", UNITS)
        self.weighting = choice(settings, "weighting", WEIGHTINGS)
        self.padding = choice(settings, "padding", PADDINGS)
        self.clamp = settings["clamp"]
        self.skip_above = settings["skip_above"]
        self.focus, self.high = float(settings["focus"]), int(settings["high"])
        self.imperfect = float(settings["imperfect"])

    def __call__(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        """The terms for one batch of images (B, 1, *S) in [0, 1]."""
        assert isinstance(module, DiffuseReg)
        shape = tuple(pair.fixed.image.shape[2:])
        grid = module.grid(shape)
        u = pair.field
        if u is None:
            u = pair.fixed.image.new_zeros(len(pair.fixed.image), len(shape), *shape)
        clean = grid.normalised(u)
        random = context.generator
        t = self.steps(len(clean), random)
        noise = torch.randn(clean.shape, generator=random, device=clean.device)
        begun, perfect = clean, torch.ones(len(clean), device=clean.device)
        if self.imperfect > 0:
            begun, perfect = spoilt(clean, self.imperfect, random)
            t = torch.where(perfect > 0, t, t.clamp(min=LEAST))
        found = module.estimate(add_noise(SCHEDULE, begun, noise, t), t, module.see(pair), grid)
        estimate = found.clean if self.clamp is None else found.clean.clamp(-self.clamp, self.clamp)
        displacement = grid.voxels(estimate)
        errors = (found.noise - noise).square().flatten(1).mean(1) * perfect
        terms = {"noise": self.noise * errors.sum() / perfect.sum().clamp(min=1)}
        if self.clean > 0:
            terms["clean"] = self.clean * mse(found.clean, clean)
        weights = self.weights(t)
        if self.similarity > 0:
            each = self.dissimilarities(pair, displacement)
            terms["similarity"] = self.similarity * (weights * each).mean()
        if self.smoothness > 0:
            rough = [roughness(one[None], pair, self.units) for one in displacement]
            each = torch.stack(rough)
            terms["smoothness"] = self.smoothness * (weights * each).mean()
        return StepOutput(terms, Prediction(displacement=displacement))

    def steps(self, count: int, generator: torch.Generator) -> Tensor:
        """A step for each example, (count,) int64."""
        random = torch.rand((2, count), generator=generator, device=generator.device)
        least = torch.where(random[0] < self.focus, self.high, 0)
        t = least + random[1] * (SCHEDULE.steps - least)
        return t.long().clamp(max=SCHEDULE.steps - 1)

    def weights(self, t: Tensor) -> Tensor:
        """What similarity and smoothness count at steps ``t``, (B,) float32."""
        weights = torch.ones(len(t), device=t.device)
        if self.weighting == "abar":
            weights = SCHEDULE.levels_on(t.device)[t].float()
        return weights if self.skip_above is None else weights * (t <= self.skip_above)

    def dissimilarities(self, pair: Pair, displacement: Tensor) -> Tensor:
        """1 - SSIM of the images in [-1, 1] with a range of 1, as published, example by example."""
        moving, fixed = 2 * pair.moving.compared - 1, 2 * pair.fixed.compared - 1
        warped = warp(moving, displacement, padding=self.padding)
        return torch.stack(
            [ssim_loss(f[None], w[None]) for f, w in zip(fixed, warped, strict=True)]
        )


def spoilt(clean: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Normalised fields (B, 3, *s), some of them in part and with smooth errors; 1 where not.

    A spoilt field is a uniform part of the clean one, and errors of up to ``WRONG`` SD.
    """
    device, ones = clean.device, [1] * (clean.dim() - 1)
    random = torch.rand((3, len(clean)), generator=generator, device=device)
    perfect = (random[0] >= share).float()
    errors = gaussian(torch.randn(clean.shape, generator=generator, device=device), WIDE)
    errors = errors / errors.std().clamp(min=1e-6) * (WRONG * random[1]).reshape(-1, *ones)
    part = clean * random[2].reshape(-1, *ones) + errors
    return torch.where(perfect.reshape(-1, *ones) > 0, clean, part), perfect
