"""Description of the method ``diffusereg``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
from regtool_diffusereg.presets import DIFFUSEREG


@hookimpl
def regtool_method() -> Method:
    """Describe DiffuseReg."""
    return Method(
        name="diffusereg",
        summary="A diffusion model of displacement fields: the field is sampled from noise, with "
        "both images in view; can be watched, stopped, resumed and steered.",
        paper=Paper(
            title="DiffuseReg: Denoising Diffusion Model for Obtaining Deformation Fields in "
            "Unsupervised Deformable Image Registration",
            authors="Zhuo, Shen",
            year=2024,
            url="https://arxiv.org/abs/2410.05234",
        ),
        licence="Apache-2.0",
        ndim=(3,),
        modality=("MR",),
        anatomy=("heart",),
        model="regtool_diffusereg.model:build",
        options="regtool_diffusereg.options:DiffuseRegOptions",
        recipe="regtool_diffusereg.recipe:recipe",
        capabilities=frozenset(
            {"batches", "labels", "masks", "previews", "samples", "stoppable", "warm"}
        ),
        presets=DIFFUSEREG,
        weights=(
            WeightsRef(
                name="diffusereg-acdc-3d",
                ndim=3,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="70eec670fac1217bf730e3b03c2756f035ff9273cecb3fb377350110acecffe7",
            ),
        ),
    )
