"""Weights of strangers: what their files and their Hub may claim, and what they may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuzz_hub
import pytest
import torch
from fuzz_seeds import Seeds, make_weights

from regtool.engine.registrar import load_registrar
from regtool.engine.training.checkpoint import save_checkpoint
from regtool.engine.training.settings import loop_settings
from regtool.engine.training.state import State, read_checkpoint
from regtool.errors import GeometryError, InputError, UsageError, WeightsError
from regtool.plugins import discovery
from regtool.plugins.options import parse_options
from regtool.plugins.sampling_options import SamplingOptions
from regtool.prepare.gridding import network_grid
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid
from regtool.weights import hub, resolve, stock
from regtool.weights.files import read_header


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The weights of the smallest VoxelMorph."""
    make_weights(tmp_path / "weights")
    return tmp_path / "weights"


def changed(folder: Path, **changes: Any) -> str:
    """The folder with parts of its config.json replaced."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return str(folder)


def test_options_that_are_nothing(folder: Path) -> None:
    spec = changed(folder, options=None)
    assert load_registrar("voxelmorph", 2, weights=spec, device="cpu").options is not None


@pytest.mark.parametrize("value", [1e300, float("inf"), float("nan")])
def test_numbers_that_no_tensor_holds(value: float) -> None:
    with pytest.raises(UsageError, match="option 'clamp' "):
        parse_options(SamplingOptions, {"clamp": value})
    with pytest.raises(UsageError, match="single precision"):
        parse_options(SamplingOptions, {"direction": (0.0, value, 1.0)})


def test_they_are_sound(folder: Path) -> None:
    assert load_registrar("voxelmorph", 2, weights=str(folder), device="cpu").ndim == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 3},
        {"name": ["x"]},
        {"options": "passes=2"},
        {"network": {"variant": "no such", "width": 1}},
        {"network": {"variant": "1", "width": 1, "a b": 2}},
        {"network": {"variant": "1", "width": "1"}},
        {"preparation": {"spacing": [None, [False]], "size": [32, 32]}},
        {"preparation": {"spacing": [1e-300, 1.0], "size": [None, None]}},
        {"preparation": {"spacing": [None, None], "size": [10**6, 10**6]}},
        {"preparation": {"spacing": [None, None], "size": [32, 32], "multiple": 10**9}},
    ],
)
def test_config_that_does_not_fit(folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(WeightsError):
        load_registrar("voxelmorph", 2, weights=changed(folder, **changes), device="cpu")


@pytest.mark.parametrize("width", [10**3, 10**5, 10**12])
def test_network_far_larger_than_its_weights(folder: Path, width: int) -> None:
    """It is refused before it is allocated."""
    spec = changed(folder, network={"variant": "1", "width": width})
    with pytest.raises(WeightsError, match="far larger"):
        load_registrar("voxelmorph", 2, weights=spec, device="cpu")


def test_grid_larger_than_the_memory() -> None:
    """Of an image that is sound, by a spacing that is not meant for it."""
    fixed = Grid((512,) * 3, (1e5,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1), (0.0,) * 3)
    fine = Preparation(spacing=(0.1,) * 3, size=(None,) * 3)
    with pytest.raises(GeometryError, match="memory"):
        network_grid(fixed, fine, fixed.centre)


@pytest.mark.parametrize("dtype", [[], {}, None, 3, "F8_E4M3", "C64"])
def test_types_in_a_safetensors_header(tmp_path: Path, dtype: Any) -> None:
    entry = {"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(entry).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(WeightsError, match="'a'"):
        read_header(tmp_path / "model.safetensors")


@pytest.mark.parametrize("state", [{"step": "three"}, {"stage": None}, {}, {"best_figures": [1]}])
def test_state_of_a_checkpoint(tmp_path: Path, state: dict[str, Any]) -> None:
    whole = {"stage": "main"} | state if state else {}
    save_checkpoint(tmp_path / "c.safetensors", {"model": {"a": torch.zeros(1)}}, whole)
    with pytest.raises(InputError, match="damaged checkpoint"):
        read_checkpoint(tmp_path / "c.safetensors")


def test_sound_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", {"model": {"a": torch.zeros(1)}}, vars(State("x")))
    assert read_checkpoint(tmp_path / "c.safetensors")[1] == State("x")


# -- a Hub that says what it likes ------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Pull from a Hub whose answers have odd headers; gives the cache's folder."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY",
                 "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DOWNLOAD_TIMEOUT"):  # fmt: skip
        monkeypatch.setattr(constants, name, getattr(constants, name))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fuzz_hub._begin(tmp_path)
    seeds = Seeds(folder, {f"weights/{p.name}": p.read_bytes() for p in folder.iterdir()})
    said = {"status": {}, "short": 0, "config": seeds.bytes["weights/config.json"].decode(),
            "model": seeds.bytes["weights/model.safetensors"].decode("latin-1")}  # fmt: skip

    def pull(*faults: tuple[str, str], **more: Any) -> hub.HubFiles:
        listed = [{"when": "both", "file": "both", "header": h, "value": v} for h, v in faults]
        fuzz_hub._Handler.script = {**said, "faults": listed, **more}
        fuzz_hub._Handler.asked = 0
        port = fuzz_hub._server[-1].server_address[1]
        return hub.download(
            "org/repo", fuzz_hub.COMMIT, patience=hub.Patience(2.0, ()),
            endpoint=f"http://127.0.0.1:{port}", cache_dir=tmp_path / "deep" / "cache",
        )  # fmt: skip

    yield pull
    fuzz_hub._end()


@pytest.mark.parametrize(
    "name",
    ["a--b/c", "a/b.git", "a/b..c", "a./b", "a/b-", "a/" + "b" * 100, "ä/b", "a/b@" + "c" * 300],
)
def test_repositories_that_the_client_refuses(name: str) -> None:
    with pytest.raises(UsageError, match="form"):
        resolve(discovery.load("voxelmorph"), f"hub:{name}", 2, offline=True)


def everything(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag"])
@pytest.mark.parametrize("tag", ["../../../../escaped", "/{}/escaped", "..", "a/b", "x" * 300])
def test_etag_that_leads_out_of_the_cache(
    header: str, tag: str, script: Any, tmp_path: Path
) -> None:
    """The Hub's client calls a file what the server calls it."""
    before = everything(tmp_path)
    with pytest.raises(WeightsError, match=r"ETag|Etag"):
        script((header, f'"{tag.format(tmp_path)}"'))
    assert not [n for n in everything(tmp_path) - before if not n.startswith("deep")]


@pytest.mark.parametrize("commit", ["../../../escaped", "main", "f" * 39, "F" * 40, ""])
def test_commit_that_is_none(commit: str, script: Any, tmp_path: Path) -> None:
    before = everything(tmp_path)
    with pytest.raises(WeightsError):
        script(("X-Repo-Commit", commit))
    assert not [n for n in everything(tmp_path) - before if not n.startswith("deep")]


def test_missing_file_under_a_strange_commit(script: Any, tmp_path: Path) -> None:
    """The client notes absent files in a folder that it names after the answer's commit."""
    before = everything(tmp_path)
    with pytest.raises(WeightsError):
        script(("X-Repo-Commit", "../../../../escaped"), ("X-Error-Code", "EntryNotFound"),
               status={"HEAD config": 404, "GET config": 404})  # fmt: skip
    assert not [n for n in everything(tmp_path) - before if not n.startswith("deep")]


@pytest.mark.parametrize("text", ["../../../../etc/passwd", "/etc/passwd"])
def test_links_of_a_repository_are_not_followed(text: str, script: Any, tmp_path: Path) -> None:
    """A link in a git repository is a file that holds where it leads; it stays such a file."""
    script(config=text)
    method = discovery.load("voxelmorph")
    with pytest.raises(WeightsError, match="not valid JSON"):
        resolve(method, f"hub:org/repo@{fuzz_hub.COMMIT}", 2, offline=True,
                cache_dir=tmp_path / "deep" / "cache")  # fmt: skip


def test_sound_answers_are_taken(script: Any, tmp_path: Path) -> None:
    files = script()
    found = resolve(discovery.load("voxelmorph"), f"hub:org/repo@{fuzz_hub.COMMIT}", 2,
                    offline=True, cache_dir=tmp_path / "deep" / "cache")  # fmt: skip
    assert found.model == files.model
    assert (stock.copy_to(found, tmp_path / "copies") / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["\0", "x" * 300, "a\nb", "é" * 150])
def test_names_that_no_folder_can_have(name: str, folder: Path, tmp_path: Path) -> None:
    weights = resolve(discovery.load("voxelmorph"), changed(folder, name=name), 2)
    with pytest.raises(WeightsError, match="is no name"):
        stock.copy_to(weights, tmp_path / "copies")
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize("stages", ["text", {"registration": "text"}, [1], {"registration": [1]}])
def test_stages_that_are_no_tables(stages: Any) -> None:
    with pytest.raises(UsageError, match="table of settings"):
        loop_settings({"training": {"steps": 3, "stages": stages}}, "registration")
