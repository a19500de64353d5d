"""Description of the method ``syn``."""

from __future__ import annotations

from typing import Any

from regtool.api import Method, Paper, hookimpl


@hookimpl
def regtool_method() -> Method:
    """Describe SyN."""
    return Method(
        name="syn",
        summary="Symmetric normalisation by ANTs; needs pip install 'regtool[syn]'.",
        paper=Paper(
            title="Symmetric diffeomorphic image registration with cross-correlation: evaluating "
            "automated labeling of elderly and neurodegenerative brain",
            authors="B. Avants, C. Epstein, M. Grossman, J. Gee",
            year=2008,
            url="https://doi.org/10.1016/j.media.2007.06.004",
        ),
        licence="Apache-2.0 (adapter)",
        ndim=(2, 3),
        model="regtool_syn.model:build",
        options="regtool_syn.options:SynOptions",
        capabilities=frozenset({"masks", "inverse"}),
        presets={f"{n}d": _preset(n) for n in (2, 3)},
    )


def _preset(ndim: int) -> dict[str, Any]:
    return {
        "ndim": ndim,
        "network": {},
        "preparation": {
            # The file's own axes and a linear map of its values: what ANTs would see itself.
            "spacing": (None,) * ndim,
            "size": (None,) * ndim,
            "multiple": 1,
            "intensity": [{"kind": "minmax"}],
        },
    }
