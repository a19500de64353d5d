"""The tutorial is followed to its end: a method in two files, then its weights in its wheel."""

from __future__ import annotations

import ast
import importlib.util
import json
import zipfile
from pathlib import Path

import pytest
import SimpleITK as sitk
from doc_blocks import Reader, blocks
from warm_cli import WarmProcess

SMALL = {"phantom:heart2d?n=40": "phantom:heart2d?n=2&size=48"}


@pytest.fixture(scope="module")
def followed(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Somebody who has done what both pages say."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("the build backend hatchling is absent: pip install hatchling")
    reader = Reader(tmp_path_factory.mktemp("tutorial"), warm, SMALL)
    reader.follow("tutorial/method.md")
    reader.follow("tutorial/weights.md")
    return reader


def record(reader: Reader, prefix: str) -> dict:
    return json.loads((reader.folder / f"{prefix}regtool.json").read_text(encoding="utf-8"))


def longest(reader: Reader, prefix: str) -> float:
    field = sitk.GetArrayFromImage(sitk.ReadImage(str(reader.folder / f"{prefix}1Warp.nii.gz")))
    return float(abs(field).max())


def test_two_files_are_one_s_own() -> None:
    titles = [b.title for b in blocks("tutorial/method.md") if b.title]
    assert [Path(title).name for title in titles] == ["network.py", "loss.py"]


def test_the_method_uses_the_api_alone() -> None:
    for block in blocks("tutorial/method.md"):
        if not block.title:
            continue
        for node in ast.walk(ast.parse(block.text)):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.partition(".")[0] == "regtool":
                assert module.split(".")[:2] == ["regtool", "api"], module


def test_it_trains_and_registers(followed: Reader) -> None:
    weights = followed.folder / "runs" / "flow" / "weights" / "flow-2d"
    assert (weights / "model.safetensors").is_file()
    made = record(followed, "flow_")
    assert made["method"] == {"name": "flow", "distribution": "regtool-flow 0.1.0"}
    assert (followed.folder / made["weights"]["path"]).parent == weights
    assert {"before", "after"} <= set(made["dice"])
    assert {"refine", "similarity"} <= set(record(followed, "fine_"))
    assert (followed.folder / "fine_Composite.h5").is_file()


def test_half_the_strength_is_a_shorter_way(followed: Reader) -> None:
    assert record(followed, "half_")["options"] == {"strength": 0.5}
    assert 0 < longest(followed, "half_") < longest(followed, "flow_")


def test_the_checks_pass_before_and_after_the_weights_are_shipped(followed: Reader) -> None:
    checks, ships = "pytest regtool-flow", followed.ran.index("python ship.py")
    assert checks in followed.ran[:ships]
    assert checks in followed.ran[ships:]
    assert "WeightsRef(" in (followed.folder / "regtool-flow/regtool_flow/plugin.py").read_text()


def test_the_wheel_brings_its_weights(followed: Reader) -> None:
    (wheel,) = (followed.folder / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    folder = "regtool_flow/weights/flow-phantom-2d"
    assert {f"{folder}/{n}" for n in ("model.safetensors", "config.json", "README.md")} <= set(
        names
    )
    used = record(followed, "shipped_")["weights"]
    assert (used["name"], used["source"], used["pinned"]) == ("flow-phantom-2d", "shipped", True)
    assert str(followed.folder / "prefix") in used["path"]
