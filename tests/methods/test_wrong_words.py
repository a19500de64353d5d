"""A setting that nothing knows, or a file that is not there, is refused before data are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from regtool.engine.training.plan import TrainRequest, make_plan
from regtool.errors import InputError, UsageError
from regtool_ldm_morph.lgca import LGCA
from regtool_ldm_morph.model import LDMMorph
from regtool_ldm_morph.presets import LDM_MORPH

WORDS = [
    ("voxelmorph", "acdc-2d", "similarity"),
    ("voxelmorph", "acdc-2d", "network.variant"),
    ("voxelmorph-diff", "acdc-2d", "network.variant"),
    ("ldm-morph", "trial", "latent_scale"),
    ("ldm-morph", "trial", "similarity"),
    ("ldm-morph", "trial", "stages.autoencoder.reconstruction"),
    ("ldm-morph", "trial", "network.noise"),
    ("ldm-morph", "trial", "network.second_block"),
    ("diffusemorph", "trial", "similarity"),
    ("diffusemorph", "trial", "units"),
    ("diffusemorph", "trial", "network.field.form"),
    ("diffusemorph", "trial", "network.score.attention"),
    ("fsdiffreg", "trial", "network.score.attention"),
    ("diffusereg", "acdc-3d", "network.predicts"),
    ("vtn", "acdc-3d", "network.affine"),
    ("vtn", "acdc-3d", "network.start"),
]


def plan(folder: Path, method: str, preset: str, *words: str) -> None:
    make_plan(
        TrainRequest(
            folder, method, data=["phantom"], preset=preset, assignments=list(words), threads=1
        )
    )


@pytest.mark.parametrize(("method", "preset", "key"), WORDS)
def test_a_misspelt_word_names_those_there_are(tmp_path, method, preset, key):
    with pytest.raises(UsageError, match=r"'foo': give .+ or "):
        plan(tmp_path, method, preset, f"{key}=foo")


@pytest.mark.parametrize("key", ["earlier_run", "stages.autoencoder.lpips"])
def test_a_file_that_is_missing_is_an_input(tmp_path, key):
    with pytest.raises(InputError, match="nowhere"):
        plan(tmp_path, "ldm-morph", "trial", f"{key}=/nowhere.safetensors")


@pytest.mark.parametrize("wrong", [{"noise": "freshh"}, {"second_block": "Cross"}])
def test_ldm_morph_takes_no_switch_for_another(wrong):
    with pytest.raises(UsageError, match=f"network.{next(iter(wrong))} '"):
        LDMMorph({**LDM_MORPH["trial"]["network"], **wrong})


def test_the_second_block_is_cross_or_self():
    with pytest.raises(UsageError, match="give cross or self"):
        LGCA(8, 2, 4, second="Cross")
