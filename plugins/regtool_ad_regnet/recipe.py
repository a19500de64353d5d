"""Training of AD-RegNet: one network, one stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from regtool.api.train import Stage, registration_stages
from regtool_ad_regnet.loss import ADRegNetLoss
from regtool_ad_regnet.model import build


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage ``registration``; it needs ``fields`` where ``known_field`` weights them."""
    settings = preset["training"]
    (stage,) = registration_stages(settings, build, ADRegNetLoss)
    return (replace(stage, needs=("fields",)) if settings["known_field"] else stage,)
