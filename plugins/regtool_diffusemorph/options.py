"""Options of DiffuseMorph at registration."""

from __future__ import annotations

from regtool.api import Field, Options


class DiffuseMorphOptions(Options):
    """Options of DiffuseMorph."""

    passes: int = Field(
        1, ge=1, le=8, description="times the networks look at the pair, each on what they warped"
    )
    eta: float = Field(
        1.0,
        ge=0,
        le=1,
        description="part of the predicted noise: 1 is the fixed image, 0 near none",
    )
    trajectory: int = Field(
        0, ge=0, le=999, description="also write so many frames from eta 0 to 1 and their fields"
    )
    synthesize: bool = Field(
        False, description="also draw a synthetic fixed image from the noised moving one"
    )
    start: int = Field(
        200, ge=1, le=1999, description="step (of 2000) to which the moving image is noised"
    )
    steps: int = Field(
        80, ge=1, le=1999, description="steps back from there, evenly spaced; 200 as released"
    )

    @property
    def etas(self) -> tuple[float, ...]:
        """The parts of the way of a trajectory's frames; both ends are among them."""
        if self.trajectory == 1:
            return (self.eta,)
        last = max(1, self.trajectory - 1)
        return tuple(number / last for number in range(self.trajectory))
