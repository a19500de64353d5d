"""Whether the fields of a ``Request`` are what they are said to be, checked in one place.

The command line hands over what typer has checked; records and Python callers may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from regtool.errors import UsageError
from regtool.imaging.volume import Volume

TOPOLOGIES = ("off", "report", "repair")

Check = tuple[Callable[[Any], bool], str]


def check_fields(values: Mapping[str, Any]) -> None:
    """Raise UsageError that names the first field with a value of another kind than it takes."""
    for name, value in values.items():
        fits, kind = _CHECKS[name]
        if not fits(value):
            shown = repr(value) if isinstance(value, str | int | float) else type(value).__name__
            raise UsageError(f"{name}: needs {kind}, not {shown:.60}")


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _whole(least: int, most: int, none: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if value is None:
            return none
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and least <= value <= most

    return fits


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _topology(value: Any) -> bool:
    return isinstance(value, str) and value in TOPOLOGIES


def _settings(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value)
    return _texts(value)


def _texts(value: Any) -> bool:
    plain = isinstance(value, Sequence) and not isinstance(value, str)
    return plain and all(isinstance(item, str) for item in value)


_NONE = type(None)
_KINDS = "an image: a file, a SimpleITK image or a regtool.Volume"
_IMAGE: Check = (_is(str, Path, Volume), _KINDS)
_MAYBE_IMAGE: Check = (_is(str, Path, Volume, _NONE), _KINDS)
_POINTS: Check = (_is(str, Path, np.ndarray, _NONE), "landmarks: a file or an array")
_PLACE: Check = (_is(str, Path, _NONE), "a path")
_TEXT: Check = (_is(str), "a text")
_SWITCH: Check = (_is(bool), "True or False")

_CHECKS: dict[str, Check] = {
    "fixed": _IMAGE,
    "moving": _IMAGE,
    "method": (_is(str), "a method's name"),
    "output": _PLACE,
    "weights": (_is(str, Path, _NONE), "a name or path of weights"),
    "initial": (_is(str, Path, _NONE), "none, com, rigid, affine or a file"),
    "fixed_mask": _MAYBE_IMAGE,
    "moving_mask": _MAYBE_IMAGE,
    "fixed_labels": _MAYBE_IMAGE,
    "moving_labels": _MAYBE_IMAGE,
    "fixed_points": _POINTS,
    "moving_points": _POINTS,
    "slices": (_is(str, _NONE), "x, y or z"),
    "roi": _MAYBE_IMAGE,
    "inverse": _SWITCH,
    "composite": _SWITCH,
    "refine": (_whole(0, 10**9, none=True), "a number of steps"),
    "topology": (_topology, f"one of {', '.join(TOPOLOGIES)}"),
    "fill": (_finite, "a finite number"),
    "fail_if_worse": _SWITCH,
    "settings": (_settings, "options as a mapping or as texts NAME=VALUE"),
    "device": _TEXT,
    "precision": _TEXT,
    "threads": (_whole(1, 10**6, none=True), "a number of threads"),
    "seed": (_whole(0, 2**31 - 1), "a whole number from 0 to 2147483647"),
    "offline": _SWITCH,
    "overwrite": _SWITCH,
    "report": _PLACE,
    "report_pngs": _PLACE,
    "command": (_texts, "texts"),
}
