"""Options of both methods at registration."""

from __future__ import annotations

from regtool.api import Field, Options


class VoxelMorphOptions(Options):
    """Options of VoxelMorph."""

    passes: int = Field(
        1, ge=1, le=8, description="times the network looks at the pair, each on what it warped"
    )


class DiffOptions(Options):
    """Options of VoxelMorph-diff."""

    passes: int = Field(
        1, ge=1, le=8, description="times the network looks at the pair, each on what it warped"
    )
    steps: int = Field(7, ge=1, le=12, description="squarings that integrate the velocity")
    fraction: float = Field(
        1.0, ge=0, le=1, description="part of the way to go: the field of this time on the path"
    )
