"""Description of the method ``ldm-morph``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
from regtool_ldm_morph.presets import LDM_MORPH


@hookimpl
def regtool_method() -> Method:
    """Describe LDM-Morph."""
    return Method(
        name="ldm-morph",
        summary="A Swin network reads both images and what a latent diffusion model sees in them.",
        paper=Paper(
            title="LDM-Morph: Latent diffusion model guided deformable image registration",
            authors="Wu, Gong",
            year=2024,
            url="https://arxiv.org/abs/2411.15426",
        ),
        licence="Apache-2.0",
        ndim=(2,),
        modality=("MR", "US"),
        anatomy=("heart",),
        model="regtool_ldm_morph.model:build",
        options="regtool_ldm_morph.options:LDMMorphOptions",
        recipe="regtool_ldm_morph.recipe:recipe",
        capabilities=frozenset({"batches", "samples"}),
        presets=LDM_MORPH,
        weights=(
            WeightsRef(
                name="ldm-morph-acdc",
                ndim=2,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="08de7f4d567d30e82da177e6c24cbbd022acc7d2508f2f873f11f96f5ef55f23",
            ),
        ),
    )
