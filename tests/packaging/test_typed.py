"""A stranger's program, checked by mypy --strict against the installed wheel."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = '''
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import regtool
from regtool.api import (
    Context,
    Field,
    Method,
    Options,
    Pair,
    Prediction,
    WeightsRef,
    hookimpl,
    native_preset,
)
from regtool.api.losses import diffusion, local_ncc
from regtool.api.spatial import warp


class MyOptions(Options):
    """What a user may set."""

    strength: float = Field(1.0, ge=0, description="A factor.")


class Network(nn.Module):
    """One convolution."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, features, 3, padding=1)

    def forward(self, pair: Pair, options: MyOptions, context: Context) -> Prediction:
        """A field of the pair's shape."""
        image: Tensor = torch.cat([pair.fixed.image, pair.moving.image], 1)
        field: Tensor = self.layer(image)[:, :2] * options.strength
        warped: Tensor = warp(pair.moving.image, field)
        loss: Tensor = local_ncc(pair.fixed.image, warped) + diffusion(field)
        return Prediction(displacement=field, notes={"loss": float(loss)})


@hookimpl
def regtool_method() -> Method:
    """The description."""
    ref = WeightsRef("mine", 2, "heart", "MR", "CC0", "0" * 64)
    return Method(
        name="mine", summary="Mine.", paper=None, licence="MIT", ndim=(2,), weights=(ref,),
        model="mine:build", options="mine:MyOptions", presets={"2d": native_preset(2)},
    )


def build(config: Mapping[str, object]) -> nn.Module:
    """The network."""
    return Network(4)


def similarity(folder: Path) -> float:
    """Register two files."""
    result = regtool.register(folder / "fixed.nii.gz", folder / "moving.nii.gz", method="optimise")
    number: float = result.record["similarity"]["local_ncc"]["after"]
    shape: tuple[int, ...] = result.warped.shape
    return number * len(shape)


reveal_type(regtool.register)
'''

WRONG = """
import regtool
from regtool.api import Method, Prediction

Prediction(displacement="a word")
Method(name=3)
result = regtool.register("a.nii", "b.nii", method="optimise")
result.wrapped
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The Python of a fresh environment: the wheel in it, and its dependencies beside."""
    folder = tmp_path_factory.mktemp("stranger")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # all that installing a wheel of pure Python does for imports
    # A path from here is searched, but the links to checkouts that it holds are not followed.
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "venv" / "bin" / "python"


def check(python: Path, folder: Path, text: str) -> str:
    """What mypy --strict says of a program."""
    (folder / "mine.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=",
         f"--python-executable={python}", f"--cache-dir={python.parents[2] / 'cache'}", "mine.py"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_sound_program_passes(python: Path, tmp_path: Path) -> None:
    said = check(python, tmp_path, PROGRAM)
    assert "Success: no issues found" in said, said
    assert "Registration" in said.split("Revealed type is")[1], "register is not known by its type"


def test_a_wrong_one_does_not(python: Path, tmp_path: Path) -> None:
    said = check(python, tmp_path, WRONG)
    for words in ('"displacement"', '"name"', '"wrapped"'):
        assert words in said, said
    assert "import-untyped" not in said and "import-not-found" not in said
