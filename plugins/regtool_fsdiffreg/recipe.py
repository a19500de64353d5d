"""Training of FSDiffReg: the whole network at once; 3-D perhaps after 2-D on the same slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regtool.api.nn import ATTENTION
from regtool.api.train import Stage, choice, registration_stages
from regtool_fsdiffreg.loss import GuidedLoss
from regtool_fsdiffreg.model import build

_MOMENTA = {"betas": (0.5, 0.999)}
"""As released; the paper does not say."""


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage ``registration``, after ``slices`` if the preset's ``slices_first`` asks.

    Raises UsageError for a word that the network does not know.
    """
    choice(preset["network"]["score"], "attention", ATTENTION, within="network.score")
    return registration_stages(preset["training"], build, GuidedLoss, _MOMENTA)
