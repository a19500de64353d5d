"""Options of the method ``optimise``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator, model_validator

from regtool.api import Field, Options

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"iterations": (100, 60, 10), "tolerance": 0.03},
    "default": {"iterations": (100, 100, 40), "tolerance": 0.01},
    "accurate": {"iterations": (200, 200, 100), "tolerance": 0.003},
}
"""What ``preset`` stands for; other options go before it."""

FINER: dict[int, dict[str, Any]] = {2: {}, 3: {"total_sigma": (0.5, 0.4, 0.35)}}
"""What the preset ``accurate`` has of its own: volumes gain detail, slices would lose Dice."""

SMOOTHNESS = {"ncc": 1.0, "mse": 0.02, "mi": 0.5, "mind": 0.5}
"""Weights that suit each similarity with Adam, where only the energies make a field smooth."""


class OptimiseOptions(Options):
    """How a pair is optimised; what is not given follows from the preset."""

    preset: Literal["fast", "default", "accurate"] = Field(
        "default", description="how much work: fast stops early, accurate late and smooths less"
    )
    formulation: Literal["compositive", "displacement", "velocity"] = Field(
        "compositive",
        description="Gaussian-smoothed steps composed with each other, or Adam on a displacement "
        "or a velocity",
    )
    similarity: Literal["ncc", "mse", "mi", "mind"] = Field(
        "ncc",
        description="local correlation; squared difference for equal contrasts; mutual information "
        "or self-similarity (MIND-SSC) for different ones",
    )
    window: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="edge of the correlation window in voxels, odd (2-D 7, 3-D 5)",
    )
    bins: int = Field(32, ge=8, description="cells of the mutual information's histogram")
    update_sigma: tuple[float, ...] | None = Field(
        None,
        min_length=1,
        description="Gaussian over each step's field, voxels of a level's finest axis: one value, "
        "or coarse to fine",
    )
    total_sigma: tuple[float, ...] | None = Field(
        None, min_length=1, description="Gaussian over the whole displacement, alike"
    )
    balance: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="how far regions of weak contrast keep pace with those of strong contrast",
    )
    smoothness: float | None = Field(
        None, ge=0, description="weight of the diffusion energy; compositive steps take none"
    )
    bending: float = Field(0.0, ge=0, description="weight of the bending energy")
    labels: float = Field(
        0.0, ge=0, description="pull of the overlap of labels, as a part of that of the images"
    )
    landmarks: float = Field(0.0, ge=0, description="pull of the landmarks, alike")
    symmetric: bool | None = Field(
        None, description="move both images half way, which gives a true inverse"
    )
    convex: bool = Field(False, description="search large motion on the coarsest level first")
    iterations: tuple[int, ...] | None = Field(
        None, description="iterations at most on each level, coarse to fine"
    )
    tolerance: float | None = Field(
        None, ge=0, description="a level ends when its last iterations gain less than this part"
    )
    rate: float | None = Field(
        None, gt=0, description="longest step in voxels of a level (0.5; Adam's rate 0.1)"
    )

    @field_validator("window")
    @classmethod
    def _odd(cls, window: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if window is not None and any(edge < 1 or edge % 2 == 0 for edge in window):
            raise ValueError("odd numbers, as a window has a middle")
        return window

    @model_validator(mode="after")
    def _no_contradiction(self) -> OptimiseOptions:
        from regtool_optimise.model import settings  # heavy: only where a registration begins

        settings(self, 2)  # what it refuses does not depend on the dimension
        return self

    def required_inputs(self) -> Mapping[str, Literal["labels", "points", "masks"]]:
        """Labels and landmarks where they are to pull."""
        kinds: dict[str, Literal["labels", "points"]] = {"labels": "labels", "landmarks": "points"}
        return {option: kind for option, kind in kinds.items() if getattr(self, option)}
