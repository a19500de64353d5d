"""Description of the method ``syn``."""

from __future__ import annotations

from regtool.api import Method, Paper, hookimpl, native_preset


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
        tools={"ants": "antspyx"},
        capabilities=frozenset({"masks", "inverse"}),
        # The file's own axes and a linear map of its values: what the tool would see itself.
        presets={f"{n}d": native_preset(n, intensity=[{"kind": "minmax"}]) for n in (2, 3)},
    )
