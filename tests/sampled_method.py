"""A method that samples its field with an exact denoiser, for tests of what is around it.

Fields are distributed normally, voxel by voxel, about a short optimisation of the pair. It stands
in its own module so that a program started by a test can load it as a plugin.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from regtool.api import Context, Field, Method, Pair, Prediction, hookimpl, native_preset
from regtool.api.diffusion import SR3, FieldScale, sample_field
from regtool.api.refine import LENGTHS, Optimisation, optimise
from regtool.api.sampling import SamplingOptions

NAME = "sampled"

DEAF = "SAMPLED_DEAF"
"""Environment variable: if set, the method does not say that it can be stopped."""

CAPABILITIES = frozenset({"samples", "previews", "stoppable", "warm", "masks", "labels"})


class SampledOptions(SamplingOptions):
    """Options of the method."""

    spread: float = Field(0.1, ge=0, description="SD of the fields, in voxels")
    delay: float = Field(0.0, ge=0, description="seconds to wait at each step")
    steps: int | None = Field(10, ge=1, description="steps")


class Sampled(nn.Module):
    """The method."""

    def forward(self, pair: Pair, options: SampledOptions, context: Context) -> Prediction:
        ndim = pair.fixed.image.dim() - 2
        quick = Optimisation(**{**LENGTHS[ndim], "iterations": (10, 10)})
        alone = Context(context.generator, context.device)
        middle = optimise(Pair(pair.fixed, pair.moving), quick, alone).displacement
        assert middle is not None
        field = FieldScale.of([0.0] * ndim, [2.0] * ndim)
        mean, variance = field.normalised(middle), (options.spread / 2) ** 2

        def denoiser(state: Tensor, t: Tensor) -> Tensor:
            time.sleep(options.delay)
            level = SR3.level(int(t))
            share = (1 - level) ** 0.5 / (level * variance + 1 - level)
            return share * (state - level**0.5 * mean)

        return sample_field(denoiser, SR3, field, tuple(mean.shape), pair, options, context)


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build the method; it has no parameters."""
    return Sampled()


@hookimpl
def regtool_method() -> Method:
    """Describe the method."""
    return Method(
        name=NAME,
        summary="Samples about a quick optimisation.",
        paper=None,
        licence="Apache-2.0",
        ndim=(2, 3),
        model="sampled_method:build",
        options="sampled_method:SampledOptions",
        capabilities=CAPABILITIES - ({"stoppable"} if DEAF in os.environ else set()),
        presets={"plain-2d": native_preset(2), "plain-3d": native_preset(3)},
    )


def install(folder: Path) -> list[str]:
    """Declare the method in ``folder``; returns what has to be on the path to load it."""
    info = folder / "sampled-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sampled\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[regtool.methods]\n{NAME} = sampled_method\n", "utf-8")
    return [str(folder), str(Path(__file__).parent)]
