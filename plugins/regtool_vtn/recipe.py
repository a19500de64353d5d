"""Training of VTN: the whole cascade at once; perhaps after its 2-D form on the same slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regtool.api.train import Stage, registration_stages
from regtool_vtn.loss import CascadeLoss
from regtool_vtn.model import build


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage ``registration``, after ``slices`` if the preset's ``slices_first`` asks."""
    return registration_stages(preset["training"], build, CascadeLoss)
