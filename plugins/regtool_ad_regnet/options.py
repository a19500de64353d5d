"""Options of AD-RegNet at registration."""

from __future__ import annotations

from regtool.api import Field, Options


class ADRegNetOptions(Options):
    """Options of AD-RegNet."""

    passes: int = Field(
        1, ge=1, le=8, description="times the network looks at the pair, each on what it warped"
    )
    levels: bool = Field(
        False, description="also write every level's field, coarse ones as seen at full size"
    )
    attention: bool = Field(
        False, description="also write each level's regional attention and its weight in the fusion"
    )
    entropy: bool = Field(
        False, description="also write how spread each level's cross-attention is, 0 to 1"
    )
    jacobian: bool = Field(False, description="also write the determinants of every level's field")
    uncertainty: bool = Field(
        False, description="also write appearance uncertainty by Monte-Carlo dropout (slow)"
    )
    samples: int = Field(25, ge=2, le=1000, description="draws of the uncertainty")
    dropout: float = Field(
        0.1, gt=0, lt=1, description="share of channels that each draw of the uncertainty drops"
    )
    tile: int | None = Field(
        None, ge=16, description="go through the volume in overlapping cubes of so many voxels"
    )
    overlap: float = Field(0.5, ge=0, le=0.9, description="share of a tile's edge with the next")
    memory: float | None = Field(
        None, gt=0, description="GiB that may be used; none: what is free when it starts"
    )

    @property
    def shows(self) -> bool:
        """Whether any extra is wanted."""
        return self.levels or self.attention or self.entropy or self.jacobian or self.uncertainty
