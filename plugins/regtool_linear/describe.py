"""What the two linear methods have in common."""

from __future__ import annotations

from regtool.api import Method, native_preset


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
        presets={f"{n}d": native_preset(n, initial=kind) for n in (2, 3)},
    )
