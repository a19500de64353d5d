"""Breathing pairs as files: images, lungs, landmarks and the true transform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.data.phantom_files import PARTS
from regtool.data.phantoms.landmarks import choose_landmarks
from regtool.data.phantoms.pair import Phantom

POINTS = ("fixed_points", "moving_points")
TRUTH = "truth"
ALL = (*PARTS, *POINTS, TRUTH)
"""Every part of a written pair; the truth is a displacement field."""
LANDMARKS = 300  # as many as DIR-Lab has for each pair
DEPTH_MM = 6.0  # landmarks lie inside the lungs, not on the pleura


def landmarks(
    phantom: Phantom, count: int = LANDMARKS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Landmarks in the lungs of the fixed image and where they truly are in the moving one.

    Two arrays (N, 3) in LPS mm, N at most ``count``. They are voxel centres of the fixed image, so
    the truth at them is not interpolated; none leaves the moving image.
    """
    from scipy import ndimage

    from regtool.spatial.frames import grid_points

    spacing = phantom.grid.spacing[::-1]
    lungs = np.pad(phantom.fixed_labels > 0, 1)  # the border of the image is one of the lungs
    depth = ndimage.distance_transform_edt(lungs, sampling=spacing)[1:-1, 1:-1, 1:-1]
    allowed = (depth > DEPTH_MM) & _stays(phantom.displacement)
    place = choose_landmarks(phantom.fixed, allowed, spacing, count)
    index = np.ravel_multi_index(tuple(place.T), phantom.grid.shape)
    fixed = grid_points(phantom.grid)[index]
    return fixed, fixed + truth(phantom).reshape(-1, 3)[index]


def truth(phantom: Phantom) -> NDArray[np.float32]:
    """The known field (*shape, 3) in LPS mm, from fixed to moving points."""
    import torch

    from regtool.spatial.frames import to_world_field

    return to_world_field(torch.from_numpy(phantom.displacement), phantom.grid, phantom.grid)


def part_paths(
    folder: Path, parts: Iterable[str], prefix: str = "", suffix: str = ".nii.gz"
) -> dict[str, Path]:
    """The file of each part of ``ALL``; ``suffix`` is that of images (.nii is quicker)."""
    words = {TRUTH: f"{TRUTH}_1Warp"}
    return {
        part: folder / f"{prefix}{words.get(part, part)}{'.csv' if part in POINTS else suffix}"
        for part in parts
    }


def write_breathing(
    phantom: Phantom, paths: Mapping[str, Path], count: int = LANDMARKS, overwrite: bool = False
) -> int:
    """Write the parts of a pair that ``paths`` names, of ``ALL``; the number of landmarks.

    All appear or none. Raises OutputError for existing files (without ``overwrite``) or a folder
    that cannot be written.
    """
    from regtool.imaging.points import write_points
    from regtool.imaging.writing import Outputs

    points: dict[str, NDArray[Any]] = dict(zip(POINTS, landmarks(phantom, count), strict=True))
    with Outputs(dict(paths), overwrite=overwrite) as outputs:
        for part in paths:
            if part in PARTS:
                outputs.image(part, getattr(phantom, part), phantom.grid)
            elif part in POINTS:
                write_points(outputs.file(part), points[part])
            else:
                outputs.field(part, truth(phantom), phantom.grid)
    return len(points[POINTS[0]])


def _stays(displacement: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Where a voxel's tissue lies inside the moving image."""
    shape = displacement.shape[1:]
    stays = np.ones(shape, bool)
    for axis, n in enumerate(shape):
        line = np.arange(n, dtype=np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        at = displacement[axis] + line
        stays &= (at >= 0) & (at <= n - 1)
    return stays
