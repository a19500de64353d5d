"""Options of DiffuseReg at registration."""

from __future__ import annotations

from typing import Literal

from regtool.api import Field, Options


class DiffuseRegOptions(Options):
    """Options of DiffuseReg."""

    sampler: Literal["ddim", "ancestral"] = Field(
        "ddim", description="how noise is removed; the paper's is ancestral"
    )
    steps: int = Field(
        50, ge=1, le=2000, description="steps over the whole schedule of 2000; the paper has 2000"
    )
    eta: float = Field(
        0.0, ge=0, le=1, description="fresh noise in steps of ddim: 0 none, 1 as much as ancestral"
    )
    clamp: float | None = Field(
        10.0, gt=0, description="keep clean estimates within so many SD of the training's fields"
    )
