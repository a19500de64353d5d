"""Description of the method ``affine``."""

from __future__ import annotations

from regtool.api import Method, hookimpl
from regtool_linear.describe import linear


@hookimpl
def regtool_method() -> Method:
    """Describe affine registration."""
    return linear(
        "affine",
        "Affine, by mutual information from a rigid start (SimpleITK).",
    )
