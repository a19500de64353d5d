"""Options of LDM-Morph at registration."""

from __future__ import annotations

from typing import Literal

from regtool.api import Field, Options


class LDMMorphOptions(Options):
    """Options of LDM-Morph."""

    passes: int = Field(
        1, ge=1, le=8, description="times the network looks at the pair, each on what it warped"
    )
    noise: Literal["trained", "shared", "fresh", "none"] = Field(
        "trained",
        description="noise on the latents whose features are read: as in training; one pattern for "
        "all images (from --seed); another for each image; none",
    )
