"""Description of the method ``diffusemorph``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
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
        capabilities=frozenset({"batches", "samples"}),
        presets=DIFFUSEMORPH,
        weights=(
            WeightsRef(
                name="diffusemorph-acdc-2d",
                ndim=2,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="36a82e92a650df8b22a220a055f3f85406ce760e237a1a5292f25a59fbca9f19",
            ),
            WeightsRef(
                name="diffusemorph-acdc-3d",
                ndim=3,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="61e624fc3fa42f3334a546f530b5a04c5f02bd06df27a12ddf91f6f028686f64",
            ),
        ),
    )
