"""Description of the method ``rigid``."""

from __future__ import annotations

from regtool.api import Method, hookimpl
from regtool_linear.describe import linear


@hookimpl
def regtool_method() -> Method:
    """Describe rigid registration."""
    return linear("rigid", "Rotation and translation, by mutual information (SimpleITK).")
