"""Options of the method ``greedy``."""

from __future__ import annotations

from typing import Literal

from regtool.api import Field, Options


class GreedyOptions(Options):
    """How greedy registers; the names in brackets are those of its command line."""

    metric: Literal["wncc", "ncc", "ssd", "mi", "nmi"] = Field(
        "wncc",
        description="local correlation weighted by masks and overlap, plain local correlation, "
        "squared difference, mutual information, or its normalised form (-m)",
    )
    radius: tuple[int, ...] = Field(
        (2,), min_length=1, description="radius of ncc and wncc in voxels: one value, or x,y,z"
    )
    iterations: tuple[int, ...] = Field(
        (100, 50, 10),
        min_length=1,
        description="iterations at each level, coarse to fine (-n); levels at which an axis would "
        "have fewer than 4 voxels are left out",
    )
    epsilon: float = Field(1.0, gt=0, description="step of each update (-e)")
    sigma1: float = Field(1.7320508, ge=0, description="smoothing of each update in voxels (-s)")
    sigma2: float = Field(
        0.70710678, ge=0, description="smoothing of the whole field in voxels (-s)"
    )
    velocity: bool = Field(
        False, description="stationary velocity (log-demons) instead of composed updates (-sv)"
    )
