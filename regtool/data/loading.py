"""From the files that a case names to volumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regtool.data.cases import Case, Raw
from regtool.data.pickled import read_pickled_image, read_pickled_labels
from regtool.data.raw import read_raw
from regtool.data.tracings import read_tracings
from regtool.data.voxel_points import read_voxel_points
from regtool.errors import InputError
from regtool.imaging.points import read_points
from regtool.imaging.reading import read_frame, read_image, read_labels
from regtool.imaging.volume import Volume


def load_image(case: Case) -> Volume:
    """The image of a case, its frame where it names one. Raises InputError, GeometryError."""
    if isinstance(case.stored, Raw):
        return read_raw(case.image, case.stored)
    if case.stored == "pickle":
        return read_pickled_image(case.image)
    return read_image(case.image) if case.frame is None else read_frame(case.image, case.frame)


def load_labels(case: Case, image: Volume) -> Volume | None:
    """The labels of a case, None where it has none.

    Labels of a frame come from a file of one volume, from one with as many frames as the image's,
    or from a table of tracings (``.csv``), filled with 1 on the grid of ``image``. Those of a
    pickled case are the second array of the file.
    Raises InputError, GeometryError.
    """
    if case.labels is not None and case.stored == "pickle":
        return read_pickled_labels(case.labels)
    if case.labels is None or case.frame is None:
        return None if case.labels is None else read_labels(case.labels)
    if case.labels.suffix.lower() == ".csv":
        return read_tracings(case.labels).mask(case.image.stem, case.frame, image)
    labels = read_labels(case.labels, allow=("scalar", "series"))
    if labels.kind != "series":
        return labels
    try:
        return labels.frame(case.frame)
    except IndexError as error:
        raise InputError(str(error)) from error


def load_points(case: Case, image: Volume) -> NDArray[np.float64] | None:
    """The landmarks of a case as (N, ndim), LPS mm, None where it has none. Raises InputError."""
    if case.points is None:
        return None
    if case.counted_from is None:
        return read_points(case.points, image.ndim).points
    return read_voxel_points(case.points, image.grid, case.counted_from)
