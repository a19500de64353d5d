"""Options of the method ``syn``."""

from __future__ import annotations

from typing import Any, Literal

from regtool.api import Field, Options

NAMES = {"cc": "CC", "mattes": "mattes", "meansquares": "meansquares"}
"""The metrics as ants.registration calls them."""


class SynOptions(Options):
    """How ANTs registers; the defaults are those of antsRegistrationSyN.sh."""

    metric: Literal["cc", "mattes", "meansquares"] = Field(
        "cc",
        description="local cross-correlation, mutual information, or squared difference",
    )
    radius: int = Field(4, ge=1, description="radius of the correlation window in voxels")
    bins: int = Field(32, ge=4, description="histogram bins of mutual information")
    iterations: tuple[int, ...] = Field(
        (100, 70, 50, 20), min_length=1, description="iterations at each level, coarse to fine"
    )
    gradient_step: float = Field(0.1, gt=0, description="step of each update, in voxels")
    flow_sigma: float = Field(
        3.0, ge=0, description="smoothing of the update field (variance in voxels)"
    )
    total_sigma: float = Field(
        0.0, ge=0, description="smoothing of the whole field (variance in voxels)"
    )
    quick: bool = Field(
        False,
        description="as antsRegistrationSyNQuick.sh: mutual information, nothing at full "
        "resolution; metric and iterations may still be set",
    )

    def settings(self) -> dict[str, Any]:
        """The arguments of ``regtool_syn.tool.register`` that these options decide."""
        metric, iterations = self.metric, self.iterations
        if self.quick:
            given = self.model_fields_set
            metric = metric if "metric" in given else "mattes"
            iterations = iterations if "iterations" in given else (*iterations[:-1], 0)
        sampling = {"cc": self.radius, "mattes": self.bins, "meansquares": 0}[metric]
        return {
            "metric": NAMES[metric],
            "sampling": sampling,
            "iterations": iterations,
            "gradient_step": self.gradient_step,
            "flow_sigma": self.flow_sigma,
            "total_sigma": self.total_sigma,
        }
