"""Description of the method ``optimise``."""

from __future__ import annotations

from regtool.api import Method, hookimpl, instance_preset


@hookimpl
def regtool_method() -> Method:
    """Describe instance optimisation."""
    return Method(
        name="optimise",
        summary="No training: a deformation is optimised for each pair, coarse to fine.",
        paper=None,
        licence="Apache-2.0",
        ndim=(2, 3),
        model="regtool_optimise.model:build",
        options="regtool_optimise.options:OptimiseOptions",
        capabilities=frozenset({"inverse", "labels", "masks", "points", "previews"}),
        presets={f"{n}d": instance_preset(n) for n in (2, 3)},
    )
