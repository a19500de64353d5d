"""Training of DiffuseMorph: both networks jointly; 3-D perhaps after 2-D on the same slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regtool.api.nn import ATTENTION
from regtool.api.train import Stage, choice, registration_stages
from regtool_diffusemorph.field import FORMS
from regtool_diffusemorph.loss import JointLoss
from regtool_diffusemorph.model import build

_MOMENTA = {"betas": (0.5, 0.999)}
"""As released; the paper does not say."""


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage ``registration``, after ``slices`` if the preset's ``slices_first`` asks.

    Raises UsageError for words that the networks do not know.
    """
    network = preset["network"]
    choice(network["score"], "attention", ATTENTION, within="network.score")
    choice(network["field"], "form", FORMS, within="network.field")
    return registration_stages(preset["training"], build, JointLoss, _MOMENTA)
