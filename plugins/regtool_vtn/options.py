"""Options of VTN at registration."""

from __future__ import annotations

from regtool.api import Field, Options


class VTNOptions(Options):
    """Options of VTN."""

    passes: int = Field(
        1,
        ge=1,
        le=8,
        description="times the deformable stems follow one another, each on what was warped so far",
    )
    stages: bool = Field(
        False, description="also write the field of every deformable stem, in its order"
    )
