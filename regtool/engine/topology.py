"""Repair of a registration's field before anything is made with it, and what that cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.engine import measure
from regtool.engine.request import Inputs
from regtool.imaging.resample import resample
from regtool.spatial.grid import Matrix
from regtool.spatial.repair import FLOOR
from regtool.spatial.repair_field import repair_field


def repair(
    inputs: Inputs, field: NDArray[np.float32], affine: Matrix
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Remove all folds of the field (*S, ndim), LPS mm, and say what was done, for the record.

    Where both label maps are there the summary holds ``dice``, of labels warped by the field as it
    came; ``compare`` adds what it is now.
    """
    grid = inputs.fixed.grid
    mended, done = repair_field(field, grid)
    summary: dict[str, Any] = {"mode": "repair", "floor": FLOOR, **done.as_dict()}
    if done.changed_voxels and inputs.fixed_labels and inputs.moving_labels:
        labels = resample(inputs.moving_labels, grid, [(field, grid), affine], "nearest")
        dice = measure.overlap(inputs, labels)
        summary["dice"] = {"before": dice["after"]} if dice else {}
    return mended, summary


def compare(summary: dict[str, Any], dice: dict[str, Any] | None) -> None:
    """Complete ``summary["dice"]`` with the overlap after the repair, as ``measure`` found it.

    A field that was not touched has the same overlap before and after.
    """
    if dice is not None:
        before = summary.get("dice", {}).get("before", dice["after"])
        summary["dice"] = {"before": before, "after": dice["after"]}
