"""Training of VTN: the whole cascade at once; perhaps after its 2-D form on the same slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regtool.api.train import Stage, choice, registration_stages
from regtool_vtn.affine import HEADS
from regtool_vtn.loss import CascadeLoss
from regtool_vtn.model import STARTS, build


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage ``registration``, after ``slices`` if the preset's ``slices_first`` asks.

    Raises UsageError for words that the network does not know.
    """
    choice(preset["network"], "affine", HEADS, within="network")
    choice(preset["network"], "start", STARTS, within="network")
    return registration_stages(preset["training"], build, CascadeLoss)
