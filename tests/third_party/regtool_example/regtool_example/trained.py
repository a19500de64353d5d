"""The description of the trained method; imports no torch."""

from __future__ import annotations

from regtool.api import Method, hookimpl


@hookimpl
def regtool_method() -> Method:
    """Return the description of the method."""
    return Method(
        name="example-slide",
        summary="A small network slides the whole image.",
        paper=None,
        licence="Apache-2.0",
        ndim=(2, 3),
        model="regtool_example.slide:build",
        options="regtool_example.options:SlideOptions",
        recipe="regtool_example.slide:recipe",
        task="translation",
        presets={
            "small-2d": {
                "ndim": 2,
                "network": {"width": 8},
                "preparation": {"spacing": (None, None), "size": (None, None), "multiple": 8},
                "training": {"steps": 400, "batch": 2, "lr": 3e-3},
            },
            "small-3d": {
                "ndim": 3,
                "network": {"width": 8},
                "preparation": {
                    "spacing": (None, None, None),
                    "size": (None, None, None),
                    "multiple": 8,
                },
                "training": {"steps": 400, "batch": 1, "lr": 3e-3},
            },
        },
    )
