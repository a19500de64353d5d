"""Description of the method ``ad-regnet``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
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
        weights=(
            WeightsRef(
                name="ad-regnet-brain",
                ndim=3,
                anatomy="brain",
                modality="T1 MR",
                licence="CC-BY-NC-3.0",
                sha256="a3adc52a5d0609e7f2dc0a93bc71ff11605856dc2630387041815b9ec14ad224",
            ),
            WeightsRef(
                name="ad-regnet-lung",
                ndim=3,
                anatomy="lung",
                modality="CT",
                licence="Apache-2.0",
                sha256="ee595e4cfe7eb3353c0f4520761f6f6a30dd977c2ae00ad3767d4f68e93791e3",
            ),
        ),
    )
