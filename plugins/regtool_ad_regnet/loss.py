"""One training step: similarity, regularity and landmarks, each the sum of weighted parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api import UsageError
from regtool.api.losses import (
    field_distance,
    fold_penalty,
    global_ncc,
    landmark_distance,
    mind_ssc,
    ssim_loss,
)
from regtool.api.refine import teacher_distance
from regtool.api.spatial import compose
from regtool.api.train import (
    UNITS,
    Context,
    Pair,
    Prediction,
    StepOutput,
    chance,
    choice,
    local_ncc,
    mse,
    roughness,
    warp,
)
from regtool_ad_regnet.network import Fields

Settings = Mapping[str, Any]
Similarity = Callable[[Tensor, Tensor], Tensor]


def similarities(settings: Settings) -> dict[str, Similarity]:
    """What ``similarity`` may weight; each is zero, or -1 for ``local_ncc``, for equal images."""
    return {
        "ncc": lambda f, w: 1 + global_ncc(f, w),
        "ssim": lambda f, w: ssim_loss(f, w, window=int(settings["ssim_window"])),
        "local_ncc": lambda f, w: local_ncc(f, w, window=int(settings["ncc_window"])),
        "mse": mse,
        "mind": lambda f, w: mse(mind_ssc(f), mind_ssc(w)),
    }


class ADRegNetLoss:
    """``lambda_similarity L_sim + lambda_regularity L_reg + lambda_landmarks L_landmark``.

    With weights within each: L_sim = ``similarity`` of the whole images' correlation (1 - NCC),
    1 - SSIM, and, not in the paper, local correlation (-1 to 0), squared difference and MIND;
    L_reg = ``smoothness`` times mean squared forward differences + ``jacobian`` times
    ``mean ReLU(-det(I + grad u))``. The paper gives the outer weights 1, 0.1, 1; the inner ones are
    ours, all 1 (METHODS 7.3, AD-4). L_landmark is the mean distance in mm of ``x_F + u(x_F)`` from
    x_M; it counts in a run with ``landmark_folds`` only, where the engine keeps the landmarks of
    the held-out fold away from every loss (AD-5).

    Similarity is taken of the images as they were before training invented contrasts.

    The rest helps short trainings, all off in the preset ``paper``: ``units`` ``mm`` takes the
    smoothness in millimetres; ``second_look`` is how often a batch is what a second pass would
    begin with; ``teacher`` weights the mean distance (voxels) from what instance optimisation
    finds, ``known_field`` that from the field given for the pair, ``known_levels`` that of each
    coarser level's field from the given one's mean over its voxels (not at a second look).
    """

    def __init__(self, settings: Settings) -> None:
        known = similarities(settings)
        wrong = [name for name in settings["similarity"] if name not in known]
        if wrong:
            raise UsageError(f"similarity {wrong[0]!r}: give weights of {', '.join(known)}")
        weights = {name: float(weight) for name, weight in settings["similarity"].items()}
        self.parts = [(known[name], weight) for name, weight in weights.items() if weight]
        self.similar = float(settings["lambda_similarity"])
        self.regular = float(settings["lambda_regularity"])
        self.smooth = float(settings["smoothness"])
        self.jacobian = float(settings["jacobian"])
        folds = int(settings.get("landmark_folds", 0))
        self.landmarks = float(settings["lambda_landmarks"]) if folds else 0.0
        self.units = choice(settings, "units", UNITS)
        self.second_look = float(settings["second_look"])
        self.teacher = float(settings["teacher"])
        self.known_field = float(settings["known_field"])
        self.known_levels = float(settings.get("known_levels", 0.0))

    def __call__(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        """The terms for one batch of images (B, 1, *S) in [0, 1]."""
        before = self._before(module, pair, context)
        found = fields_of(module, pair, before)
        with torch.autocast(found.displacement.device.type, enabled=False):
            u = found.displacement.float()
            total = u if before is None else compose(before, u)
            terms = self._terms(u, total, pair, context)
            several = len(found.levels) > 1
            if self.known_levels and several and before is None and pair.field is not None:
                network: Any = module.network
                apart = levels_distance(found.levels[:-1], network.sides[:-1], pair.field)
                terms["known_levels"] = self.known_levels * apart
            return StepOutput(terms, Prediction(displacement=total))

    def _terms(self, u: Tensor, total: Tensor, pair: Pair, context: Context) -> dict[str, Tensor]:
        """``u`` is what the network put out, ``total`` the whole way of this batch."""
        fixed = pair.fixed.compared
        warped = warp(pair.moving.compared, total)
        terms = {}
        if self.parts:
            values = [weight * part(fixed, warped) for part, weight in self.parts]
            terms["similarity"] = self.similar * torch.stack(values).sum()
        terms["smoothness"] = self.regular * self.smooth * roughness(u, pair, self.units)
        if self.jacobian:
            terms["jacobian"] = self.regular * self.jacobian * fold_penalty(total)
        points = pair.fixed.points, pair.moving.points
        if self.landmarks and points[0] is not None and points[1] is not None:
            apart = landmark_distance(total, points[0], points[1], pair.fixed.spacing)
            terms["landmarks"] = self.landmarks * apart
        if self.teacher:
            terms["teacher"] = self.teacher * teacher_distance(total, pair, context)
        if self.known_field and pair.field is not None:
            terms["known_field"] = self.known_field * field_distance(total, pair.field)
        return terms

    def _before(self, module: nn.Module, pair: Pair, context: Context) -> Tensor | None:
        """What a first pass finds, for some of the batches."""
        if not chance(context.generator, self.second_look):
            return None
        with torch.no_grad():
            return displacement_of(module, pair).float()


def displacement_of(module: nn.Module, pair: Pair, before: Tensor | None = None) -> Tensor:
    """What the network finds for a batch whose moving images ``before`` has warped already.

    Displacements (B, ndim, *S) in voxels.
    """
    return fields_of(module, pair, before).displacement


def fields_of(module: nn.Module, pair: Pair, before: Tensor | None = None) -> Fields:
    """The same with every level's displacement."""
    moving = pair.moving.image if before is None else warp(pair.moving.image, before)
    network: Any = module.network
    found: Fields = network(pair.fixed.image, moving, pair.fixed.mask)
    return found


def levels_distance(levels: Sequence[Tensor], sides: Sequence[int], field: Tensor) -> Tensor:
    """Sum over ``levels`` of the mean distance, in voxels of the image, from ``field``, a scalar.

    ``levels``: displacements (B, 3, *s) in voxels of their own grids, which are ``sides`` voxels of
    the image wide and begin at its first corner. ``field`` (B, 3, *S) in voxels; beyond the image
    it goes on as at the edge.
    """
    apart = []
    for level, side in zip(levels, sides, strict=True):
        missing = [level.shape[k] * side - field.shape[k] for k in (4, 3, 2)]
        wide = functional.pad(field.float(), [n for m in missing for n in (0, m)], mode="replicate")
        apart.append(field_distance(side * level.float(), functional.avg_pool3d(wide, side)))
    return torch.stack(apart).sum()
