"""The numbers that go into a record: similarity, overlap, landmarks, determinants."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regtool.engine.request import Inputs
from regtool.imaging.gridded import on_grid
from regtool.imaging.resample import resample, transform_points
from regtool.imaging.transforms import Transform
from regtool.imaging.volume import Volume
from regtool.metrics.dice import dice
from regtool.metrics.similarity import mean_local_ncc, ncc
from regtool.metrics.tre import tre
from regtool.spatial.grid import Grid
from regtool.spatial.jacobian import field_jacobian, folds


def similarity(
    inputs: Inputs, warped: NDArray[Any], fill: float = 0.0
) -> dict[str, dict[str, float]]:
    """Similarity to the fixed image before (the images as they are) and after.

    ``local_ncc``: mean squared local correlation, window 9, which decides whether a registration
    made things worse; ``ncc``: Pearson's correlation. Both inside the fixed mask if there is one.
    ``fill`` is what both have where there is nothing of the moving image.
    """
    fixed = inputs.fixed
    before = resample(inputs.moving, fixed.grid, default=fill)
    mask = None
    if inputs.fixed_mask is not None:
        mask = on_grid(inputs.fixed_mask, fixed.grid) > 0
        mask = mask if mask.any() else None
    images = {"before": before, "after": warped}
    return {
        "local_ncc": {k: mean_local_ncc(fixed.array, v, mask) for k, v in images.items()},
        "ncc": {k: ncc(fixed.array, v, mask) for k, v in images.items()},
    }


def overlap(inputs: Inputs, warped_labels: NDArray[Any] | None) -> dict[str, Any] | None:
    """Dice of every label and their mean, before and after, when both label maps are there."""
    if inputs.fixed_labels is None or inputs.moving_labels is None or warped_labels is None:
        return None
    grid = inputs.fixed.grid
    fixed = on_grid(inputs.fixed_labels, grid)
    before = resample(inputs.moving_labels, grid, interpolation="nearest")
    result: dict[str, Any] = {"interpolation": "nearest"}
    for name, labels in (("before", before), ("after", warped_labels)):
        scores = dice(fixed, labels)
        mean = float(np.mean(list(scores.values()))) if scores else None
        result[name] = {"mean": mean, "labels": {str(k): v for k, v in scores.items()}}
    return result


def landmarks(inputs: Inputs, chain: list[Transform]) -> Any:
    """Target registration error in mm before and after: ``|T(p_fixed) - p_moving|``."""
    fixed, moving = inputs.fixed_points, inputs.moving_points
    if fixed is None or moving is None:
        return None
    if fixed.shape != moving.shape:
        return {"error": f"{len(fixed)} fixed and {len(moving)} moving landmarks"}
    return {
        "before": tre(fixed, moving).as_dict(),
        "after": tre(transform_points(fixed, chain), moving).as_dict(),
    }


def determinant(field: NDArray[np.float32], grid: Grid, mask: Volume | None) -> dict[str, float]:
    """Summary of det(I + grad u) of the field as written, without the outermost layer.

    A mask that leaves no voxel is not used.
    """
    values = field_jacobian(field, grid)
    if mask is not None:
        with contextlib.suppress(ValueError):
            return folds(values, torch.from_numpy(on_grid(mask, grid) > 0)).as_dict()
    return folds(values).as_dict()
