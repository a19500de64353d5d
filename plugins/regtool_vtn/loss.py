"""One training step: the last warp against the fixed image, and what keeps the stems in bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api.losses import ssim_loss
from regtool.api.nn import cropped
from regtool.api.refine import teacher_distance
from regtool.api.train import (
    UNITS,
    Context,
    Pair,
    Prediction,
    StepOutput,
    chance,
    choice,
    diffusion,
    local_ncc,
    mse,
    warp,
)
from regtool_vtn.model import VTN, Cascaded

_EPSILON = 1e-5
_VARIANCE = 1e-6


def structural(fixed: Tensor, warped: Tensor) -> Tensor:
    """``1 - SSIM`` of images in [0, 1], taken in [-1, 1]: window 15, SD 2.5, range 2 (as released).

    A scalar. The window's mirrored border needs at least 8 voxels along every axis.
    """
    return ssim_loss(2 * fixed - 1, 2 * warped - 1, window=15, sigma=2.5, data_range=2.0)


def pearson(fixed: Tensor, warped: Tensor) -> Tensor:
    """``1 - r`` of images in [0, 1], taken in [-1, 1] and summed over the batch; a scalar.

    r is Pearson's correlation over all voxels (Zhao et al. 2019, as released).
    """
    f, w = (2 * image.float().flatten(1) - 1 for image in (fixed, warped))
    f, w = f - f.mean(1, keepdim=True), w - w.mean(1, keepdim=True)
    spread = (f.square().mean(1) + _VARIANCE) * (w.square().mean(1) + _VARIANCE)
    return (1 - (f * w).mean(1) / spread.sqrt()).sum()


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ssim": structural,
    "pearson": pearson,
    "mse": mse,
    "ncc": local_ncc,
}
"""Scalars that are to be small, from images (B, 1, *S) in [0, 1]."""


def volume_term(linear: Tensor) -> Tensor:
    """``(det A - 1)^2 / 2``, summed over the batch, for A = W + I (B, n, n); a scalar."""
    return (torch.linalg.det(linear) - 1).square().sum() / 2


def orthogonality_term(linear: Tensor) -> Tensor:
    """The sum of ``k + 1 / k - 2`` over the eigenvalues k of A^T A, summed over the batch.

    With traces of ``C = A^T A + eps I`` and of its inverse, so that the sum and the sum of inverses
    need no eigenvalues; (1 + eps)^2 puts the least value back to zero at A = I. A scalar.
    Source: Zhao et al. 2019 (VTN), as released.
    """
    n = linear.shape[-1]
    unit = torch.eye(n, device=linear.device, dtype=linear.dtype)
    c = linear.mT @ linear + _EPSILON * unit
    traces = (m.diagonal(dim1=-2, dim2=-1).sum(-1) for m in (c, torch.linalg.inv(c)))
    eigenvalues, inverses = traces
    return (eigenvalues + (1 + _EPSILON) ** 2 * inverses - 2 * n * (1 + _EPSILON)).sum()


class CascadeLoss:
    """Similarity of the last warp alone + smoothness of every stem's field + the affine's terms.

    Zhao et al. 2019; DiffuseReg's low-resolution variant has SSIM and the mean, not half the sum,
    of squared differences (METHODS 8.3). A is kept near volume 1 and near orthogonal.

    The rest helps short trainings, all off in the preset ``paper``: ``units`` ``mm`` takes
    smoothness and orthogonality in millimetres, so that thick slices may move apart;
    ``second_look`` is how often a batch is what a second pass would begin with; ``teacher`` weights
    the mean distance (voxels) from what instance optimisation finds.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.similarity = SIMILARITIES[choice(settings, "similarity", SIMILARITIES)]
        self.similar = float(settings["lambda_similarity"])
        self.smooth = float(settings["lambda_smoothness"])
        self.volume = float(settings["lambda_determinant"])
        self.orthogonal = float(settings["lambda_orthogonality"])
        self.in_mm = choice(settings, "units", UNITS) == "mm"
        self.second_look = float(settings["second_look"])
        self.teacher = float(settings["teacher"])

    def __call__(self, module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        """The terms for one batch of images (B, 1, *S) in [0, 1]."""
        assert isinstance(module, VTN)
        fixed, moving = pair.fixed.image, pair.moving.image
        found = module.look(moving, fixed, before=self._before(module, pair, context))
        with torch.autocast(fixed.device.type, enabled=False):
            return self.judged(found, pair, context)

    def judged(self, found: Cascaded, pair: Pair, context: Context) -> StepOutput:
        """The terms for what the stems found."""
        shape = tuple(pair.fixed.image.shape[2:])
        total = cropped(found.total, shape)
        warped = warp(pair.moving.compared, total, padding="zeros")
        spacing = pair.fixed.spacing if self.in_mm else None
        linear = linear_part(found.affine, spacing)
        rough = [diffusion(cropped(field, shape), spacing) for field in found.fields]
        terms = {
            "similarity": self.similar * self.similarity(pair.fixed.compared, warped),
            "smoothness": self.smooth * torch.stack(rough).sum(),
            "determinant": self.volume * volume_term(linear),
            "orthogonality": self.orthogonal * orthogonality_term(linear),
        }
        if self.teacher > 0:
            terms["teacher"] = self.teacher * teacher_distance(total, pair, context)
        assert found.displacement is not None
        u = cropped(found.displacement, shape)
        return StepOutput(terms, Prediction(displacement=u, affine=found.affine))

    def _before(self, module: VTN, pair: Pair, context: Context) -> Cascaded | None:
        """What a second pass would begin with, for some of the batches."""
        if not chance(context.generator, self.second_look):
            return None
        with torch.no_grad():
            return module.look(pair.moving.image, pair.fixed.image).settled()


def linear_part(matrix: Tensor, spacing: tuple[float, ...] | None = None) -> Tensor:
    """A's linear part (B, n, n) in voxels, or in millimetres with the ``spacing`` of each axis."""
    n = matrix.shape[-1] - 1
    linear = matrix[:, :n, :n]
    if spacing is None:
        return linear
    mm = linear.new_tensor(spacing)
    return linear * mm[:, None] / mm
