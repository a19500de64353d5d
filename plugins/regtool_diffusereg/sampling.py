"""Registration by sampling: a field from noise, with both images in view at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from regtool.api import Context, Pair, Prediction
from regtool.api.diffusion import SR3, NoiseSource, Sampling, sample
from regtool_diffusereg.options import DiffuseRegOptions

if TYPE_CHECKING:
    from regtool_diffusereg.model import DiffuseReg


def registered(
    model: DiffuseReg, pair: Pair, options: DiffuseRegOptions, context: Context
) -> Prediction:
    """The answer to a pair."""
    image = pair.fixed.image
    grid, seen = model.grid(image.shape[2:]), model.see(pair)

    def denoiser(state: Tensor, t: Tensor) -> Tensor:
        return model.estimate(state, t, seen).noise

    found = sample(
        denoiser,
        SR3,
        (len(image), len(grid.size), *grid.size),
        Sampling(options.sampler, options.steps, options.eta, options.clamp),
        NoiseSource.of(context.generator),
        device=image.device,
        report=context.report,
    )
    return Prediction(displacement=grid.voxels(found.answer))
