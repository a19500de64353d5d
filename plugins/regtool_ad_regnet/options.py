"""Options of AD-RegNet at registration."""

from __future__ import annotations

from regtool.api import Field, Options


class ADRegNetOptions(Options):
    """Options of AD-RegNet."""

    passes: int = Field(
        1, ge=1, le=8, description="times the network looks at the pair, each on what it warped"
    )
