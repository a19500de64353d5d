"""From the files that a case names to volumes."""

from __future__ import annotations

from regtool.data.cases import Case
from regtool.data.tracings import read_tracings
from regtool.errors import InputError
from regtool.imaging.reading import read_frame, read_image, read_labels
from regtool.imaging.volume import Volume


def load_image(case: Case) -> Volume:
    """The image of a case, its frame where it names one. Raises InputError, GeometryError."""
    return read_image(case.image) if case.frame is None else read_frame(case.image, case.frame)


def load_labels(case: Case, image: Volume) -> Volume | None:
    """The labels of a case, None where it has none.

    Labels of a frame come from a file of one volume, from one with as many frames as the image's,
    or from a table of tracings (``.csv``), filled with 1 on the grid of ``image``.
    Raises InputError, GeometryError.
    """
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
