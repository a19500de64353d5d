"""Options of DiffuseReg at registration."""

from __future__ import annotations

from regtool.api import Field
from regtool.api.sampling import SamplingOptions


class DiffuseRegOptions(SamplingOptions):
    """Options of DiffuseReg: those of every method that samples a field."""

    clamp: float | None = Field(
        10.0,
        gt=0,
        description="keep clean estimates within so many SD of the training's fields, whose hearts "
        "move up to 9 SD",
    )
