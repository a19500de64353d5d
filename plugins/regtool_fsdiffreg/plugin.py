"""Description of the method ``fsdiffreg``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
from regtool_fsdiffreg.presets import FSDIFFREG


@hookimpl
def regtool_method() -> Method:
    """Describe FSDiffReg."""
    return Method(
        name="fsdiffreg",
        summary="A diffusion model's features and score guide a registration decoder that gives "
        "fields at nine scales; their mean is the displacement.",
        paper=Paper(
            title="FSDiffReg: Feature-wise and Score-wise Diffusion-guided Unsupervised Deformable "
            "Image Registration for Cardiac Images",
            authors="Qin, Li",
            year=2023,
            url="https://arxiv.org/abs/2307.12035",
        ),
        licence="Apache-2.0",
        ndim=(2, 3),
        modality=("MR",),
        anatomy=("heart",),
        model="regtool_fsdiffreg.model:build",
        options="regtool_fsdiffreg.options:FSDiffRegOptions",
        recipe="regtool_fsdiffreg.recipe:recipe",
        capabilities=frozenset({"batches"}),
        presets=FSDIFFREG,
        weights=(
            WeightsRef(
                name="fsdiffreg-acdc-3d",
                ndim=3,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="b5c1f3cf2bf2af47ce466363138ced75c538a1fb58f0ee24b83b93fe1867a5d2",
            ),
        ),
    )
