"""What presets may share: valid where core reads it, new at each call, light to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from regtool.api import Schedule, presets
from regtool.data.augment import Augment
from regtool.prepare.preparation import Preparation


@pytest.mark.parametrize(
    ("make", "millimetres"),
    [(presets.heart_box, (100.8, 192, 192)), (presets.heart_3d, (100.8, 192, 192)),
     (presets.heart_2d, (192, 192)), (presets.heart_2d_half, (192, 192))],
)  # fmt: skip
def test_the_hearts_are_one_box_at_several_resolutions(make, millimetres):
    found = Preparation.model_validate(make())
    size = [n * step for n, step in zip(found.size, found.spacing, strict=True)]
    assert size == pytest.approx(millimetres)
    assert Preparation.model_validate(make(initial="affine")).initial == "affine"
    assert make(spacing=(9.0,)) == {**make(), "spacing": (9.0,)}


def test_the_training_aids_are_what_core_takes():
    varied = Augment.model_validate(presets.augmentation(noise=0.1))
    assert varied.moves and varied.noise == 0.1
    assert not Augment.model_validate(presets.flips()).moves
    assert presets.flips().items() <= presets.augmentation().items()
    assert Schedule(**presets.constant()) == Schedule()
    assert Schedule(**presets.cosine(7)) == Schedule("cosine", warmup=7)


def test_no_caller_changes_what_another_gets():
    found = presets.heart_2d()
    found["size"] = (8, 8)
    found["intensity"][0]["low"] = 9.0
    assert presets.heart_2d() == {**found, "size": (128, 128), "intensity": presets.percentiles()}
    assert presets.percentiles()[0]["low"] == 0.5


def test_importing_them_imports_nothing_heavy():
    code = (
        "import sys, regtool.api.presets; "
        "print(sorted({'torch', 'numpy', 'pydantic', 'SimpleITK'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
