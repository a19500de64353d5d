"""The description of the method; imports no torch."""

from __future__ import annotations

from regtool.api import Method, Paper, hookimpl


@hookimpl
def regtool_method() -> Method:
    """Return the description of the method."""
    return Method(
        name="example-shift",
        summary="Finds a whole-voxel shift by phase correlation [needs no training].",
        paper=Paper(
            title="The phase correlation image alignment method",
            authors="Kuglin, Hines",
            year=1975,
            url="https://en.wikipedia.org/wiki/Phase_correlation",
        ),
        licence="Apache-2.0",
        ndim=(2, 3),
        model="regtool_example.network:build",
        options="regtool_example.options:ShiftOptions",
        task="translation",
        presets={
            "plain-2d": {
                "ndim": 2,
                "network": {},
                "preparation": {"spacing": (None, None), "size": (None, None), "multiple": 1},
            },
            "plain-3d": {
                "ndim": 3,
                "network": {},
                "preparation": {
                    "spacing": (None, None, None),
                    "size": (None, None, None),
                    "multiple": 1,
                },
            },
        },
    )
