"""What the two linear methods have in common."""

from __future__ import annotations

from typing import Any

from regtool.api import Method


def linear(kind: str, summary: str) -> Method:
    """Describe the linear method ``kind`` (``rigid`` or ``affine``)."""
    return Method(
        name=kind,
        summary=summary,
        paper=None,
        licence="Apache-2.0",
        task="linear registration",
        ndim=(2, 3),
        model="regtool_linear.still:build",
        options="regtool_linear.options:NoOptions",
        capabilities=frozenset({"masks", "inverse"}),
        presets={f"{n}d": _preset(n, kind) for n in (2, 3)},
    )


def _preset(ndim: int, kind: str) -> dict[str, Any]:
    return {
        "ndim": ndim,
        "network": {},
        "preparation": {
            "spacing": (None,) * ndim,
            "size": (None,) * ndim,
            "multiple": 1,
            "initial": kind,
        },
    }
