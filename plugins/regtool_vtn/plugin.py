"""Description of the method ``vtn``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
from regtool_vtn.presets import VTN


@hookimpl
def regtool_method() -> Method:
    """Describe VTN."""
    return Method(
        name="vtn",
        summary="A recursive cascade: an affine stem and three deformable ones, each on the moving "
        "image as warped so far; DiffuseReg's first stage.",
        paper=Paper(
            title="Recursive Cascaded Networks for Unsupervised Medical Image Registration",
            authors="Zhao, Dong, Chang, Xu",
            year=2019,
            url="https://arxiv.org/abs/1907.12353",
        ),
        licence="Apache-2.0",
        ndim=(3,),
        modality=("MR",),
        anatomy=("heart",),
        model="regtool_vtn.model:build",
        options="regtool_vtn.options:VTNOptions",
        recipe="regtool_vtn.recipe:recipe",
        capabilities=frozenset({"batches"}),
        presets=VTN,
        weights=(
            WeightsRef(
                name="vtn-acdc-3d",
                ndim=3,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="bab76d621bf905d69631165630622fe3dcb02298c3056959829f4211f5231974",
            ),
        ),
    )
