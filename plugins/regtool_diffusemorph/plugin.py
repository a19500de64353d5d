"""Description of the method ``diffusemorph``."""

from __future__ import annotations

from regtool.api import Method, Paper, hookimpl
from regtool_diffusemorph.presets import DIFFUSEMORPH


@hookimpl
def regtool_method() -> Method:
    """Describe DiffuseMorph."""
    return Method(
        name="diffusemorph",
        summary="A diffusion model scores the pair and a small network turns its answer into a "
        "displacement; gives trajectories and synthetic images as well.",
        paper=Paper(
            title="DiffuseMorph: Unsupervised Deformable Image Registration Using Diffusion Model",
            authors="Kim, Han, Ye",
            year=2022,
            url="https://arxiv.org/abs/2112.05149",
        ),
        licence="Apache-2.0",
        ndim=(2, 3),
        modality=("MR", "photograph"),
        anatomy=("heart", "brain", "face"),
        model="regtool_diffusemorph.model:build",
        options="regtool_diffusemorph.options:DiffuseMorphOptions",
        recipe="regtool_diffusemorph.recipe:recipe",
        capabilities=frozenset({"samples"}),
        presets=DIFFUSEMORPH,
    )
