"""Description of the method ``voxelmorph-diff``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
from regtool_voxelmorph.presets import VOXELMORPH_DIFF


@hookimpl
def regtool_method() -> Method:
    """Describe VoxelMorph-diff."""
    return Method(
        name="voxelmorph-diff",
        summary="Probabilistic, diffeomorphic VoxelMorph: a U-Net predicts a stationary velocity.",
        paper=Paper(
            title="Unsupervised Learning of Probabilistic Diffeomorphic Registration for Images "
            "and Surfaces",
            authors="Dalca, Balakrishnan, Guttag, Sabuncu",
            year=2019,
            url="https://doi.org/10.1016/j.media.2019.07.006",
        ),
        licence="Apache-2.0",
        ndim=(2, 3),
        modality=("MR", "CT"),
        anatomy=("heart", "brain"),
        model="regtool_voxelmorph.network:build_diff",
        options="regtool_voxelmorph.options:DiffOptions",
        recipe="regtool_voxelmorph.recipe:recipe_diff",
        capabilities=frozenset({"batches", "inverse"}),
        presets=VOXELMORPH_DIFF,
        weights=(
            WeightsRef(
                name="voxelmorph-diff-acdc-3d",
                ndim=3,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="361ecaa6f06138d4fbeadd336f657a0244adf9f29aca8827893c17df71f6e0e5",
            ),
            WeightsRef(
                name="voxelmorph-diff-acdc-2d",
                ndim=2,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="ac687e5a3a450aa70430df279221513fa4cf8fb28a823e4aee7d54be1fc4ee9c",
            ),
        ),
    )
