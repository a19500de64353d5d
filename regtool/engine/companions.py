"""Sentences about images without content, and companions that can hardly belong to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regtool.engine.request import Inputs, Points, Request
from regtool.imaging.volume import Volume
from regtool.metrics.indexing import label_values
from regtool.spatial.grid import Grid

DOUBT = "are these the labels of these images?"

NOTHING = "there is nothing to register"

FLOOR = 0.1
"""As a share of the range: what is so near the darkest value may be air."""

MANY = 256
"""More labels than any atlas in use has; an intensity image has more values."""


def companion_warnings(request: Request, inputs: Inputs) -> list[str]:
    """What a user should know of images, masks, labels and landmarks, a sentence each."""
    return [
        *_image_warnings(inputs),
        *_mask_warnings(inputs),
        *_image_as_labels(request),
        *_label_warnings(inputs),
        *_landmark_warnings(request, inputs),
    ]


def off_grid(name: str, side: str, nearest: str = "label") -> str:
    """The sentence about a label map (or mask) on another grid than its image."""
    return (
        f"{name}: not on the grid of the {side} image; placed by its own header, nearest {nearest}"
    )


def unlike_air(fill: float, low: float, high: float) -> bool:
    """Whether ``fill`` stands out in an image of values from ``low`` to ``high``."""
    return fill - low > FLOOR * (high - low)


def outside(points: Points, grid: Grid, what: str) -> str | None:
    """A sentence about landmarks (N, ndim), LPS mm, beyond the voxels of the grid; None if none."""
    index = points @ grid.world_to_index[:-1, :-1].T + grid.world_to_index[:-1, -1]
    inside = ((index >= -0.5) & (index < np.asarray(grid.size) - 0.5)).all(axis=1)
    count = int((~inside).sum())
    if not count:
        return None
    verb = "lies" if count == 1 else "lie"
    return f"{count} of {len(points)} landmarks {verb} outside {what} (LPS mm are expected; RAS?)"


def _image_warnings(inputs: Inputs) -> list[str]:
    images = (inputs.fixed, inputs.moving)
    flat = [image for image in images if image.array.min() == image.array.max()]
    return [f"{v.name}: is {v.array.flat[0]:g} everywhere; {NOTHING}" for v in flat]


def _mask_warnings(inputs: Inputs) -> list[str]:
    sides = (
        ("fixed", inputs.fixed_mask, inputs.fixed),
        ("moving", inputs.moving_mask, inputs.moving),
        ("fixed", inputs.roi, inputs.fixed),
    )
    return [
        off_grid(mask.name, side, "voxel")
        for side, mask, image in sides
        if mask is not None and not mask.grid.same_as(image.grid)
    ]


def _image_as_labels(request: Request) -> list[str]:
    """Slips of the hand: ``--fixed-labels`` with the image that they should belong to."""
    images = {str(image) for image in (request.fixed, request.moving) if _is_path(image)}
    given = {"--fixed-labels": request.fixed_labels, "--moving-labels": request.moving_labels}
    return [
        f"{option} {labels}: is one of the two images, not a label map"
        for option, labels in given.items()
        if _is_path(labels) and str(labels) in images
    ]


def _is_path(source: object) -> bool:
    return isinstance(source, str | Path)


def _label_warnings(inputs: Inputs) -> list[str]:
    found = []
    values = []
    sides = (
        ("fixed", inputs.fixed_labels, inputs.fixed),
        ("moving", inputs.moving_labels, inputs.moving),
    )
    for side, labels, image in sides:
        if labels is None:
            continue
        if not labels.grid.same_as(image.grid):
            found.append(off_grid(labels.name, side))
        values.append(labels_of(labels))
        if len(values[-1]) > MANY:
            found.append(f"{labels.name}: {len(values[-1])} different labels; is this a label map?")
    if inputs.fixed_labels is not None and inputs.moving_labels is None:
        found.append("--fixed-labels alone measure nothing: Dice needs --moving-labels, too")
    if len(values) == 2 and not values[0] & values[1]:
        one, other = inputs.fixed_labels, inputs.moving_labels
        assert one is not None and other is not None
        found.append(f"{one.name} and {other.name} have no label in common; {DOUBT}")
    return found


def labels_of(labels: Volume) -> set[int]:
    """The labels of a map, without the background."""
    return set(label_values(labels.array)) - {0}


def _landmark_warnings(request: Request, inputs: Inputs) -> list[str]:
    found = []
    sides = (
        ("fixed", inputs.fixed_points, inputs.fixed, request.fixed_points),
        ("moving", inputs.moving_points, inputs.moving, request.moving_points),
    )
    for side, points, image, source in sides:
        sentence = points is not None and outside(points, image.grid, f"the {side} image")
        if sentence:
            named = "" if isinstance(source, np.ndarray) else f"{source}: "
            found.append(f"{named}{sentence}")
    fixed, moving = inputs.fixed_points, inputs.moving_points
    if fixed is not None and moving is not None and fixed.shape != moving.shape:
        found.append(
            f"{len(fixed)} fixed and {len(moving)} moving landmarks do not go together; "
            "their distance is not measured"
        )
    return found
