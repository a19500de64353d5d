"""Options of the method ``optimise``."""

from __future__ import annotations

from typing import Literal

from regtool.api import Field, Options


class OptimiseOptions(Options):
    """How a pair is optimised."""

    similarity: Literal["ncc", "mse"] = Field(
        "ncc", description="local correlation, or squared difference for equal contrasts"
    )
    window: int = Field(7, ge=3, description="edge of the correlation window in voxels, odd")
    smoothness: float = Field(
        0.0, ge=0, description="weight of the diffusion regulariser; 0 takes the similarity's own"
    )
    iterations: tuple[int, ...] = Field(
        (100, 100, 50), description="iterations at each level, coarse to fine"
    )
    rate: float = Field(0.1, gt=0, description="step of the optimiser in voxels of the level")
