"""Description of the method ``greedy``."""

from __future__ import annotations

from regtool.api import Method, Paper, hookimpl, native_preset


@hookimpl
def regtool_method() -> Method:
    """Describe greedy."""
    return Method(
        name="greedy",
        summary="Greedy diffeomorphic registration by greedy; needs pip install 'regtool[greedy]'.",
        paper=Paper(
            title="Fast automatic segmentation of hippocampal subfields and medial temporal lobe "
            "subregions in 3 Tesla and 7 Tesla T2-weighted MRI",
            authors="P. Yushkevich, J. Pluta, H. Wang, L. Wisse, S. Das, D. Wolk",
            year=2016,
            url="https://doi.org/10.1016/j.jalz.2016.06.205",
        ),
        licence="Apache-2.0 (adapter)",
        ndim=(2, 3),
        model="regtool_greedy.model:build",
        options="regtool_greedy.options:GreedyOptions",
        tools={"picsl_greedy": "picsl-greedy"},
        capabilities=frozenset({"masks", "samples"}),  # it adds a little seeded noise
        # The file's own axes and a linear map of its values: what the tool would see itself.
        presets={f"{n}d": native_preset(n, intensity=[{"kind": "minmax"}]) for n in (2, 3)},
    )
