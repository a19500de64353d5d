"""Description of the method ``ad-regnet``."""

from __future__ import annotations

from regtool.api import Method, Paper, hookimpl
from regtool_ad_regnet.presets import AD_REGNET


@hookimpl
def regtool_method() -> Method:
    """Describe AD-RegNet."""
    return Method(
        name="ad-regnet",
        summary="A shared U-Net, cross-attention between both images and between regions at every "
        "level; fields from coarse to fine become one displacement.",
        paper=Paper(
            title="Attention-Driven Framework for Non-Rigid Medical Image Registration",
            authors="Iqbal, Siddiqui, Ul Haq, Razzak",
            year=2026,
            url="https://arxiv.org/abs/2602.07088",
        ),
        licence="Apache-2.0",
        ndim=(3,),
        modality=("MR", "CT"),
        anatomy=("brain", "lung"),
        model="regtool_ad_regnet.model:build",
        options="regtool_ad_regnet.options:ADRegNetOptions",
        recipe="regtool_ad_regnet.recipe:recipe",
        capabilities=frozenset({"batches", "masks"}),
        presets=AD_REGNET,
    )
