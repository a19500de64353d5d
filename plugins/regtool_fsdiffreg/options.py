"""Options of FSDiffReg at registration."""

from __future__ import annotations

from regtool.api import Field, Options


class FSDiffRegOptions(Options):
    """Options of FSDiffReg."""

    passes: int = Field(
        1, ge=1, le=8, description="times the network looks at the pair, each on what it warped"
    )
    fields: bool = Field(
        False,
        description="also write the nine fields whose mean is the first pass's displacement, or "
        "the velocity that is integrated to it",
    )
    score: bool = Field(
        False, description="also write the score map of the first pass and the weights it gives"
    )
    gamma: float = Field(
        1.0,
        ge=0,
        le=10,
        description="power in the weight map that is written, not that of training",
    )
