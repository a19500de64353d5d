"""Small registrations in memory, with exact fields, for the tests of reports."""

from __future__ import annotations

from typing import Any

import numpy as np
from registration_cases import make_grid, points_of

from regtool.report.view import PairView
from regtool.spatial.grid import Grid


def blob(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """A smooth ball of the given radius (mm), 0 to 1000."""
    apart = np.linalg.norm(points - centre, axis=-1)
    return (1000 / (1 + np.exp((apart - radius) / 2))).astype(np.float32)


def make_view(
    direction: str = "identity",
    size: tuple[int, ...] = (40, 36, 10),
    spacing: tuple[float, ...] = (2.0, 2.0, 6.0),
    shift: tuple[float, ...] = (6.0, 0.0, 0.0),
    record: dict[str, Any] | None = None,
    **given: Any,
) -> PairView:
    """A ball that lies ``shift`` mm further in the moving image, and the constant field for it."""
    ndim = len(size)
    grid = make_grid(direction, size, spacing[:ndim])
    points, step = points_of(grid), np.asarray(shift[:ndim])
    fixed, moving = blob(points, grid.centre, 14), blob(points - step, grid.centre, 14)
    field = np.broadcast_to(step, (*grid.shape, ndim)).astype(np.float32)
    inside, before = ((v > 500).astype(np.uint8) for v in (fixed, moving))
    values: dict[str, Any] = {
        "fixed": fixed, "moving": moving, "warped": fixed.copy(), "field": field,
        "affine": np.eye(ndim + 1), "fixed_labels": inside, "moving_labels": before,
        "warped_labels": inside.copy(), "record": make_record(grid) if record is None else record,
    }  # fmt: skip
    return PairView(grid=grid, **{**values, **given})


def make_record(grid: Grid, **changes: Any) -> dict[str, Any]:
    """A record as ``regtool register`` writes it."""
    facts = {"size": list(grid.size), "spacing": list(grid.spacing), "type": "int16"}
    return {
        "schema": 1,
        "kind": "registration",
        "software": {"regtool": "0.1.0", "torch": "2.9"},
        "command": ["regtool", "register", "a fixed.nii.gz", "moving.nii.gz"],
        "method": {"name": "voxelmorph", "distribution": "regtool 0.1.0"},
        "weights": {"name": "voxelmorph-acdc-3d", "source": "shipped", "sha256": "6db77f"},
        "options": {"passes": 2, "unset": None},
        "device": "cpu",
        "seed": 0,
        "slices": None,
        "initial": "none",
        "fixed": {"path": "/data/a fixed.nii.gz", "sha256": "aa11", **facts},
        "moving": {"path": "/data/moving.nii.gz", "sha256": "bb22", **facts},
        "companions": {"fixed_labels": "/data/labels.nii.gz"},
        "affine_is_identity": True,
        "similarity": {
            "local_ncc": {"before": 0.4125, "after": 0.9375},
            "ncc": {"before": 0.5, "after": 0.96},
        },
        "jacobian": {
            "min": 0.5, "max": 2.0, "mean": 1.0, "sd": 0.1, "sd_log": 0.2345, "count": 7,
            "percent": 0.25, "voxels": 2800, "floored": 0,
        },
        "dice": {
            "before": {"mean": 0.25, "labels": {"1": 0.25}},
            "after": {"mean": 0.875, "labels": {"1": 0.875}},
        },
        "tre_mm": {
            "before": {"mean": 6.0, "sd": 1.0, "median": 6.0, "p95": 8.0, "max": 9.0, "count": 5},
            "after": {"mean": 1.25, "sd": 0.5, "median": 1.0, "p95": 2.0, "max": 3.0, "count": 5},
        },
        "warnings": ["a header was odd"],
        "seconds": {"read": 0.1, "network": 0.75, "total": 1.5},
        "outputs": {"Warped.nii.gz": {"file": "x_Warped.nii.gz", "sha256": "cc33"}},
        **changes,
    }  # fmt: skip
