"""What a file may hold, and what becomes of values that are no numbers; for every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging.volume import Kind, Volume

_MEANING = {
    "scalar": "an image of one value a voxel",
    "rgb": "a colour (RGB) image",
    "series": "a series of frames",
    "vector": "a vector image (displacement field)",
}


def check_allowed(path: Path, kind: Kind, shape: tuple[int, ...], allow: Sequence[Kind]) -> None:
    """Raise InputError for a kind that is not allowed; ``shape`` is the one on disk."""
    if kind in allow:
        return
    size = "×".join(str(n) for n in shape)
    expected = " or ".join(_MEANING[k] for k in allow)
    hint = "; choose one frame first" if kind == "series" else ""
    raise InputError(f"{path}: is {_MEANING[kind]} of size {size}; expected {expected}{hint}")


def zero_nonfinite(values: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """The values with 0 for NaN and infinity, as ITK reads them, and how many there were."""
    if values.dtype.kind != "f":
        return values, 0
    finite = np.isfinite(values)
    count = int(values.size - np.count_nonzero(finite))
    return (np.where(finite, values, values.dtype.type(0)) if count else values), count


def finite(volume: Volume) -> Volume:
    """An image that was made in memory with 0 for NaN and infinity, and a warning if it has any."""
    values, count = zero_nonfinite(volume.array)
    if not count:
        return volume
    return replace(
        volume,
        array=values,
        header=replace(volume.header, nonfinite=count),
        warnings=(*volume.warnings, nonfinite_warning(volume.name, count)),
    )


def nonfinite_warning(path: str | Path, count: int) -> str:
    """What the user is told of them."""
    return f"{path}: {count} NaN or infinite values were read as 0"
