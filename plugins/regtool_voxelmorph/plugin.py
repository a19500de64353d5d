"""Description of the method ``voxelmorph``."""

from __future__ import annotations

from regtool.api import Method, Paper, WeightsRef, hookimpl
from regtool_voxelmorph.presets import VOXELMORPH


@hookimpl
def regtool_method() -> Method:
    """Describe VoxelMorph."""
    return Method(
        name="voxelmorph",
        summary="A U-Net predicts the displacement directly (VoxelMorph-2, 0.3 M parameters).",
        paper=Paper(
            title="VoxelMorph: A Learning Framework for Deformable Medical Image Registration",
            authors="Balakrishnan, Zhao, Sabuncu, Guttag, Dalca",
            year=2019,
            url="https://doi.org/10.1109/TMI.2019.2897538",
        ),
        licence="Apache-2.0",
        ndim=(2, 3),
        modality=("MR", "CT"),
        anatomy=("heart", "brain"),
        model="regtool_voxelmorph.network:build",
        options="regtool_voxelmorph.options:VoxelMorphOptions",
        capabilities=frozenset({"batches"}),
        recipe="regtool_voxelmorph.recipe:recipe",
        presets=VOXELMORPH,
        weights=(
            WeightsRef(
                name="voxelmorph-acdc-3d",
                ndim=3,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="6db77f8a86eb3ce1a1aedd6c03b4a3d449741391f227a146c736784cdaeb2c1d",
            ),
            WeightsRef(
                name="voxelmorph-acdc-2d",
                ndim=2,
                anatomy="heart (short axis)",
                modality="cine MR",
                licence="CC-BY-NC-SA-4.0",
                sha256="b38c257f1cb74607141fe79948a9c02558ac6bc4ba7e9e844325114e2f5a8b8d",
            ),
        ),
    )
