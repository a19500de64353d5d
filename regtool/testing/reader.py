"""Checks of a data reader on a data set: what training and registration rely on."""

from __future__ import annotations

import numpy as np

from regtool.data.cases import Case, PairCase
from regtool.data.loading import load_image, load_labels, load_points
from regtool.data.readers import open_data
from regtool.imaging.reading import read_mask
from regtool.imaging.volume import Volume

MARGIN = 0.1
"""Share of the image's size by which a landmark may lie outside, cut off by a mask or a crop."""


def check_reader(spec: str, pairs: int | None = 4) -> None:
    """Run every check on ``READER:PLACE?setting=value``, as ``--data`` takes it.

    The reader must list the same pairs twice, some of them to train on; of the first ``pairs``
    (None: all) each image must be readable, both of a pair in one dimension, labels and masks on
    their image's grid, and landmarks inside their image, which is where LPS and RAS are told
    apart. Raises AssertionError, and what opening the data or a file raises.
    """
    listed = open_data(spec)
    assert open_data(spec) == listed, f"{spec}: a second look lists other pairs, or another order"
    splits = sorted({pair.split for pair in listed})
    assert "train" in splits, f"{spec}: no pair to train on, only of {', '.join(splits)}"
    for pair in listed[:pairs]:
        _check_pair(pair)


def _check_pair(pair: PairCase) -> None:
    dimensions = []
    for role, case in (("fixed", pair.fixed), ("moving", pair.moving)):
        image = load_image(case)
        dimensions.append(image.ndim)
        _check_companions(case, image, f"pair {pair.name!r}, {role}")
    assert len(set(dimensions)) == 1, (
        f"pair {pair.name!r}: one image has 2 dimensions and the other 3"
    )


def _check_companions(case: Case, image: Volume, what: str) -> None:
    labels = load_labels(case, image)
    if labels is not None:
        same = labels.grid.same_as(image.grid)
        assert same, f"{what}: {case.labels} is not on the grid of {case.image}"
        assert labels.array.any(), f"{what}: {case.labels} has no labels, only zeros"
    if case.mask is not None:
        same = read_mask(case.mask).grid.same_as(image.grid)
        assert same, f"{what}: {case.mask} is not on the grid of {case.image}"
    points = load_points(case, image)
    if points is not None:
        to_index = image.grid.world_to_index
        index = points @ to_index[:-1, :-1].T + to_index[:-1, -1]
        size = np.asarray(image.grid.size)
        inside = ((index > -MARGIN * size) & (index < (1 + MARGIN) * size)).all(axis=1)
        assert inside.all(), (
            f"{what}: {int((~inside).sum())} of {len(points)} landmarks of {case.points} lie "
            "outside the image; are they millimetres, x to the left and y to the back (LPS)?"
        )
