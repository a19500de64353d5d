"""Strangers' distributions, installed by pip and used through the installed program.

Two of them: the example beside these tests, and what ``regtool plugins new`` writes.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from warm_cli import Ran, WarmProcess, run_fresh, seen

from regtool.data.phantom_files import PARTS, write_phantom
from regtool.data.phantoms import make
from regtool.data.readers import open_data
from regtool.errors import InputError, UsageError
from regtool.plugins.skeleton import create
from regtool.testing import check_method, check_reader, parametrize_checks
from regtool.testing.subject import Subject

EXAMPLE = Path(__file__).resolve().parents[1] / "third_party" / "regtool_example"
SHIFT = (4, -7)
"""Voxels along the tensor axes (y, x) by which the moving test image is displaced."""

Command = Callable[..., Ran]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and a fresh plugin ``fresh-net`` installed, and their sources."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("the build backend hatchling is absent: pip install hatchling")
    root = tmp_path_factory.mktemp("strangers")
    shutil.copytree(EXAMPLE, root / "source" / "regtool-example")
    create("fresh-net", root / "source")
    for source in sorted((root / "source").iterdir()):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        offline = ["--no-index", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, *offline, "--target", str(root / "site"), str(source)], check=True)
    return root


@pytest.fixture
def regtool(strangers: Path, warm: WarmProcess, tmp_path: Path) -> Command:
    """Run the installed ``regtool`` where it also sees the strangers."""

    def run(*arguments: str | Path) -> Ran:
        return warm.run([*map(str, arguments)], tmp_path, before=seen(strangers / "site"))

    return run


@pytest.fixture
def importable(strangers: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The strangers in this process, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(strangers / "site"))
    yield
    for name in [n for n in sys.modules if n.startswith(("regtool_example", "regtool_fresh"))]:
        del sys.modules[name]


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    """Slices on a flipped, anisotropic grid with ``moving(x + SHIFT) = fixed(x)``."""
    rng = np.random.default_rng(3)
    canvas = sitk.GetImageFromArray(rng.random((90, 110)).astype(np.float32))
    texture = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(canvas, 2.0))
    paths = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    for path, (dy, dx) in zip(paths, ((0, 0), SHIFT), strict=True):
        image = sitk.GetImageFromArray(texture[15 - dy : 79 - dy, 15 - dx : 95 - dx])
        image.SetSpacing((1.5, 0.8))
        image.SetOrigin((30.0, -12.0))
        image.SetDirection((-1.0, 0.0, 0.0, -1.0))
        sitk.WriteImage(image, str(path))
    return paths


def test_both_are_listed_beside_the_built_in_methods(strangers: Path, tmp_path: Path) -> None:
    """By an interpreter of its own, as a user starts it."""
    path = [str(strangers / "site"), *filter(None, sys.path)]
    beside = {"PYTHONPATH": os.pathsep.join(path)}
    ran = run_fresh(["plugins", "list", "--json"], tmp_path, beside)
    entries = {entry["name"]: entry for entry in json.loads(ran.out)}
    assert entries["example-shift"]["distribution"] == "regtool-example"
    assert entries["example-shift"]["version"] == "1.2.3"
    assert entries["fresh-net"]["distribution"] == "regtool-fresh-net"
    assert entries["example-shift"]["error"] is entries["fresh-net"]["error"] is None
    assert (entries["example-folders"]["kind"], entries["example-folders"]["error"]) == (
        "reader",
        None,
    )


def test_help_of_one_method(regtool: Command) -> None:
    shown = regtool("methods", "example-shift").out
    assert "Kuglin, Hines (1975)" in shown
    assert "[needs no training]" in shown
    assert "none: half the image" in shown


def test_strangers_use_the_api_alone(strangers: Path) -> None:
    for path in (strangers / "source").rglob("*.py"):
        if path.parent.name == "tests":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = [name for name in names if name.split(".")[0] == "regtool"]
            assert all(name.split(".")[:2] == ["regtool", "api"] for name in ours), path


@parametrize_checks(["example-shift", "example-slide"])
@pytest.mark.usefixtures("importable")
def test_the_examples_conform(subject: Subject, check: Callable[[Subject], None]) -> None:
    check(subject)


@pytest.mark.usefixtures("importable")
def test_its_reader_lists_what_demo_writes(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        folder = tmp_path / f"heart{seed}"
        folder.mkdir()
        write_phantom(
            make("heart2d", seed, 32), {part: folder / f"{part}.nii.gz" for part in PARTS}
        )
    check_reader(f"example-folders:{tmp_path}?val=0.3")
    pairs = open_data(f"example-folders:{tmp_path}?val=0.3&labels=false")
    assert sorted(pair.split for pair in pairs) == ["train", "train", "val"]
    assert pairs[0].fixed.labels is None
    (tmp_path / "heart2" / "moving.nii.gz").unlink()
    with pytest.raises(InputError, match=r"heart2: no moving\.nii\.gz"):
        open_data(f"example-folders:{tmp_path}")
    with pytest.raises(UsageError, match="option 'val' of reader 'example-folders'"):
        open_data(f"example-folders:{tmp_path}?val=1")


@pytest.mark.usefixtures("importable")
def test_a_fresh_plugin_conforms_in_two_dimensions() -> None:
    check_method("fresh-net", preset="2d", shapes={2: (32, 48)})


@pytest.mark.slow
def test_the_tests_of_a_fresh_plugin_pass(strangers: Path) -> None:
    path = os.pathsep.join([str(strangers / "site"), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(strangers / "source" / "regtool-fresh-net")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


def test_the_example_registers(regtool: Command, images: tuple[Path, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "out_"
    ran = regtool("register", "-m", "example-shift", *images, "-o", prefix, "--device", "cpu")
    assert ran.code == 0, ran.err
    assert ran.out == ""
    fixed, warped = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in (images[0], f"{prefix}Warped.nii.gz")
    )
    inner = slice(10, -10), slice(10, -10)
    assert np.allclose(fixed[inner], warped[inner], atol=1e-3 * np.ptp(fixed))
    field = sitk.ReadImage(f"{prefix}1Warp.nii.gz")
    # x before y, times the spacing, along axes that point backwards.
    assert np.allclose(field.GetPixel(40, 30), (-SHIFT[1] * 1.5, -SHIFT[0] * 0.8), atol=1e-4)
    record = json.loads(Path(f"{prefix}regtool.json").read_text())
    assert "regtool-example" in json.dumps(record["method"])


def test_its_options_are_set_and_checked(
    regtool: Command, images: tuple[Path, Path], tmp_path: Path
) -> None:
    common = ("register", "-m", "example-shift", *images, "-o", tmp_path / "out_")
    wrong = regtool(*common, "--set", "largest=0")
    assert wrong.code == 2
    assert "largest" in wrong.err
    assert not list(tmp_path.glob("out_*"))
    bounded = regtool(*common, "--set", "largest=1", "--device", "cpu")
    assert bounded.code == 0, bounded.err
    field = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out_1Warp.nii.gz")))
    assert np.abs(field).max() <= 1.5 + 1e-4


def test_a_fresh_plugin_trains_and_registers(
    regtool: Command, images: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    data = ("--data", "phantom:heart2d?n=2&size=48", "-o", run)
    size = ("--steps", "3", "--batch", "1", "--set", "network.width=4", "--device", "cpu")
    trained = regtool("train", "-m", "fresh-net", "--preset", "2d", *data, *size)
    assert trained.code == 0, trained.err
    (weights,) = (run / "weights").iterdir()
    assert (weights / "model.safetensors").is_file()
    common = ("register", "-m", "fresh-net", *images, "-w", weights, "--device", "cpu")
    ran = regtool(*common, "-o", tmp_path / "a_")
    assert ran.code == 0, ran.err
    still = regtool(*common, "-o", tmp_path / "b_", "--set", "strength=0")
    assert still.code == 0, still.err
    fields = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{letter}_1Warp.nii.gz")))
        for letter in "ab"
    ]
    assert np.abs(fields[0]).max() > 0
    assert np.abs(fields[1]).max() == 0
