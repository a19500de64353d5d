"""Reading numbers out of records, which may hold anything, and writing them for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MINUS = "\N{MINUS SIGN}"
NONE = "–"


def at(record: Any, *keys: str) -> Any:
    """The value under nested keys; None where there is none."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def figure(record: Any, *keys: str) -> float | None:
    """The finite number under nested keys, else None."""
    value = at(record, *keys)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def text(value: float | None, digits: int = 3, unit: str = "") -> str:
    """A number with fixed digits after the point, or a dash."""
    if value is None:
        return NONE
    return f"{value:.{digits}f}{unit}".replace("-", MINUS)


def change(before: float | None, after: float | None, digits: int = 3) -> str:
    """The signed difference of two numbers, or a dash."""
    if before is None or after is None:
        return NONE
    return f"{after - before:+.{digits}f}".replace("-", MINUS)


def percent(value: float | None) -> str:
    """A percentage that does not round a few voxels to nothing."""
    if value is None:
        return NONE
    if 0 < value < 0.001:
        return "< 0.001 %"
    return f"{value:.3g} %"


def one_line(value: Any) -> str:
    """Any value of a record in one line."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one_line(item)}" for key, item in value.items()) or NONE
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(one_line(item) for item in value) or NONE
    return str(value)


def sizes(value: Any) -> str:
    """``224 × 192 × 12`` or ``1.4 × 1.4 × 8``, from a list of numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return NONE
    return " × ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)


def listed(value: Any) -> list[str]:
    """A list of strings, whatever was there."""
    if isinstance(value, str):
        return [value]
    return [str(v) for v in value] if isinstance(value, Sequence) else []


def file_name(value: Any, parts: int = 1) -> str:
    """The last parts of a path in a record, of either kind of slash; empty for anything else."""
    if not isinstance(value, str):
        return ""
    return "/".join(value.replace("\\", "/").split("/")[-parts:])
