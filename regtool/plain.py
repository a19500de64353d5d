"""Results as plain JSON data. Only the standard library is needed here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def plain(value: Any) -> Any:
    """JSON values only: NumPy as Python, sets sorted, NaN and infinity null, all else as text."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)
