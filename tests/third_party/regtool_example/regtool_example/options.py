"""What a user can set."""

from __future__ import annotations

from regtool.api import Field, Options


class ShiftOptions(Options):
    """Options of example-shift."""

    largest: int | None = Field(
        None, ge=1, description="Largest shift along an axis in voxels; none: half the image."
    )


class SlideOptions(Options):
    """Options of example-slide."""

    share: float = Field(1.0, ge=0, le=1, description="Part of the way to go.")
