"""What instance optimisation minimises, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Similarity = Literal["ncc", "mse", "mi", "mind"]
Formulation = Literal["compositive", "displacement", "velocity"]
PerLevel = float | tuple[float, ...]

LENGTHS: dict[int, dict[str, Any]] = {
    2: {"window": 7, "update_sigma": 3.0, "total_sigma": 0.5},
    3: {"window": 5, "update_sigma": (3.0, 2.0, 1.5), "total_sigma": 0.4},
}
"""Lengths that suit images of 2 and 3 axes; chosen on validation pairs, see docs/decisions.md."""


@dataclass(frozen=True)
class Optimisation:
    """Settings of instance optimisation; lengths in voxels of each level's finest axis.

    ``formulation``: ``compositive`` composes small Gaussian-smoothed gradient steps (fluid, as
    greedy and SyN); ``displacement`` and ``velocity`` are fitted by Adam, the latter a stationary
    velocity that is integrated. ``similarity``: local correlation over ``window``, squared
    difference, mutual information of ``bins`` cells, or MIND-SSC.

    Gaussian regularisation (compositive): ``update_sigma`` for each step's field, ``total_sigma``
    for the displacement after it. ``balance`` (0 to 1, exclusive): how far regions of weak force
    keep pace with those of strong force. ``smoothness`` and ``bending`` weight the diffusion and
    bending energies in all formulations; similarities are means over voxels.

    ``window`` and the sigmas may be tuples, coarse to fine: the last value is the finest level's,
    and levels coarser than those named take the first.

    ``iterations`` at most, coarse to fine; a level ends when its last ``patience`` iterations
    gained less than ``tolerance`` of what the level has gained so far. ``rate`` is the longest step
    of an iteration, or Adam's. ``labels`` and ``landmarks`` weight what labels and points pull
    against the images (0: they do not), in shares of a compositive step, or of the loss with Adam.

    ``symmetric`` (compositive only) moves both images half way, so that exchanging them inverts the
    result, and gives the inverse too. ``convex`` searches large motion first.
    """

    formulation: Formulation = "compositive"
    similarity: Similarity = "ncc"
    window: int | tuple[int, ...] = 7
    bins: int = 32
    update_sigma: PerLevel = 3.0
    total_sigma: PerLevel = 0.5
    balance: float = 0.9
    smoothness: float = 0.0
    bending: float = 0.0
    iterations: tuple[int, ...] = (100, 100, 50)
    rate: float = 0.5
    tolerance: float = 0.01
    patience: int = 10
    labels: float = 0.0
    landmarks: float = 0.0
    symmetric: bool = False
    convex: bool = False

    def __post_init__(self) -> None:
        if self.symmetric and self.formulation != "compositive":
            raise ValueError("symmetric goes with the compositive formulation only")
        if self.symmetric and (self.labels or self.landmarks):
            raise ValueError("symmetric registers images; labels and landmarks must be 0")
        if not 0 <= self.balance < 1:
            raise ValueError("balance: from 0 to below 1")
        if not self.iterations:
            raise ValueError("iterations: at least one level")

    def at_level(self, number: int) -> Optimisation:
        """The same with what level ``number`` (0 the coarsest) takes of values given by level."""
        above = len(self.iterations) - 1 - number
        return replace(
            self,
            window=int(of_level(self.window, above)),
            update_sigma=of_level(self.update_sigma, above),
            total_sigma=of_level(self.total_sigma, above),
        )


def of_level(values: PerLevel, above: int = 0) -> float:
    """The value of the level that is ``above`` levels coarser than the finest one."""
    if not isinstance(values, tuple):
        return values
    return values[max(0, len(values) - 1 - above)]
