"""Which weights are taken, from where, and what is said when there are none."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loopback_hub import Hub
from weights_toy import install_toy, toy_config, toy_network, write_files

from regtool.errors import PluginError, UsageError, WeightsError
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import resolve


@pytest.fixture
def weights_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", str(folder))
    return folder


def test_none_is_an_untrained_network(toy_method: Method) -> None:
    weights = resolve(toy_method, "none", 2)
    assert (weights.source, weights.model, weights.folder, weights.load()) == ("none",) + (
        None,
    ) * 3
    assert weights.config == toy_config(name=None) | {"preset": "small"}
    network = toy_network()
    weights.load_into(network)
    assert torch.equal(network.first.weight, toy_network().first.weight)
    json.dumps([weights.record(), weights.config])
    with pytest.raises(WeightsError, match="no preset for 3-D"):
        resolve(toy_method, "none", 3)


def test_a_training_free_method_needs_no_weights(toy_method: Method) -> None:
    assert resolve(replace(toy_method, weights=(), recipe=None), None, 2).source == "none"
    with pytest.raises(WeightsError, match="train some with 'regtool train -m toy'"):
        resolve(replace(toy_method, weights=()), None, 2)


def test_default_is_the_first_of_the_dimension(
    toy_method: Method, weights_dir: Path, toy_folder: Path
) -> None:
    other = WeightsRef("toy-volume", 3, "brain", "MR", "CC0", "")
    method = replace(toy_method, ndim=(2, 3), weights=(other, *toy_method.weights))
    shutil.copytree(toy_folder, weights_dir / "toy-brain")
    weights = resolve(method, None, 2)
    assert (weights.name, weights.source, weights.pinned) == ("toy-brain", "directory", True)
    with pytest.raises(WeightsError, match=r"no weights for 3-D images \(only toy-brain"):
        resolve(toy_method, None, 3)
    with pytest.raises(WeightsError, match="are for 3-D images, these images are 2-D"):
        resolve(method, "toy-volume", 2)


def test_other_organs_are_named_when_none_was_asked_for(
    toy_method: Method, weights_dir: Path, toy_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights for brains are not taken for lungs without a word."""
    (first,) = toy_method.weights
    shutil.copytree(toy_folder, weights_dir / first.name, dirs_exist_ok=True)
    lung = replace(first, name="toy-lung", anatomy="lung", modality="CT")
    caplog.set_level("INFO", "regtool.weights")
    resolve(replace(toy_method, weights=(first, lung)), first.name, 2)
    resolve(replace(toy_method, weights=(first, replace(first, name="again"))), None, 2)
    assert not caplog.messages
    resolve(replace(toy_method, weights=(first, lung)), None, 2)
    assert caplog.messages == ["toy, weights toy-brain (brain, MR); also -w toy-lung (lung, CT)"]


@pytest.mark.parametrize("bare", [False, True])
def test_path_to_a_folder_or_file(
    toy_method: Method, toy_folder: Path, toy_sha256: str, bare: bool
) -> None:
    path = toy_folder / "model.safetensors" if bare else toy_folder
    weights = resolve(toy_method, str(path), 2)
    assert weights.source == "path"
    assert weights.folder == toy_folder
    assert (weights.sha256, weights.pinned, weights.name) == (toy_sha256, False, "toy-brain")
    state = weights.load()
    assert state is not None
    assert set(state) == set(toy_network().state_dict())
    json.dumps(weights.record())


def test_bare_file_without_configuration(toy_method: Method, toy_folder: Path) -> None:
    (toy_folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json: missing"):
        resolve(toy_method, str(toy_folder / "model.safetensors"), 2)


@pytest.mark.parametrize("name", ["best.pt", "best.pth", "last.ckpt", "pytorch_model.bin"])
@pytest.mark.parametrize("folder", [False, True])
def test_pickles_are_refused_unread(
    toy_method: Method, tmp_path: Path, name: str, folder: bool
) -> None:
    torch.save(toy_network().state_dict(), tmp_path / name)
    with pytest.raises(WeightsError, match="pickle checkpoints can run any code"):
        resolve(toy_method, str(tmp_path if folder else tmp_path / name), 2)


def test_a_pickle_under_a_false_name(toy_method: Method, toy_folder: Path) -> None:
    torch.save(toy_network().state_dict(), toy_folder / "model.safetensors")
    with pytest.raises(WeightsError, match="pickle checkpoint under another name"):
        resolve(toy_method, str(toy_folder), 2)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("toy-brian", "did you mean 'toy-brain'"),
        ("something", "it has: toy-brain"),
        ("no/such/folder", "no such file or folder$"),
        ("someone/toy", "write hub:someone/toy"),
        ("absent.safetensors", "no such file or folder$"),
    ],
)
def test_unknown_names_and_paths(toy_method: Method, spec: str, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        resolve(toy_method, spec, 2)


@pytest.mark.parametrize("spec", ["hub:", "hub:toy", "hub:a/b/c", "hub:a/b@x y", "hub:a/b@../x"])
def test_malformed_hub_references(toy_method: Method, spec: str) -> None:
    with pytest.raises(UsageError, match="hub:org/repo@revision"):
        resolve(toy_method, spec, 2)


def test_directory_comes_before_hub_and_is_checked(
    published: Method, weights_dir: Path, toy_folder: Path, hub: Hub
) -> None:
    copy = weights_dir / "toy-brain"
    shutil.copytree(toy_folder, copy)
    assert resolve(published, None, 2, endpoint=hub.url).source == "directory"
    assert hub.requests == []
    model = copy / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WeightsError, match=r"not the expected weights.*") as caught:
        resolve(published, None, 2, endpoint=hub.url)
    assert str(caught.value).endswith(
        "; this folder in REGTOOL_WEIGHTS_DIR takes the place of the weights 'toy-brain' of the "
        "method: if it holds others, rename it (then -w NEWNAME) or remove it; if it is a copy of "
        "them, copy it again"
    )
    model.unlink()
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors"):
        resolve(published, None, 2, endpoint=hub.url)


def test_own_weights_in_the_directory(
    toy_method: Method, weights_dir: Path, toy_folder: Path
) -> None:
    shutil.copytree(toy_folder, weights_dir / "mine")
    weights = resolve(toy_method, "mine", 2)
    assert (weights.source, weights.pinned, weights.name) == ("directory", False, "mine")
    with pytest.raises(WeightsError):
        resolve(toy_method, "../given/toy-brain", 2)


@pytest.fixture
def packaged(
    toy_method: Method, tmp_path: Path, toy_sha256: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Method, Path]:
    site = tmp_path / "checkout" / "plugins"
    install_toy(site, toy_sha256)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "regtool_toy", raising=False)
    return replace(toy_method, model="regtool_toy.network:build"), site


def test_shipped_in_the_package(packaged: tuple[Method, Path], toy_files: dict[str, bytes]) -> None:
    method, site = packaged
    folder = write_files(site / "regtool_toy" / "weights" / "toy-brain", toy_files)
    weights = resolve(method, None, 2)
    assert (weights.source, weights.folder, weights.pinned) == ("shipped", folder, True)
    (folder / "model.safetensors").write_bytes(toy_files["model.safetensors"][:-1] + b"\x7f")
    with pytest.raises(WeightsError, match="installation is damaged"):
        resolve(method, None, 2)


def test_shipped_in_a_checkout(packaged: tuple[Method, Path], toy_files: dict[str, bytes]) -> None:
    method, site = packaged
    folder = write_files(site.parent / "weights" / "toy-brain", toy_files)
    with pytest.raises(WeightsError, match="not on this machine"):
        resolve(method, None, 2)  # no project there: some folder called weights
    (site.parent / "pyproject.toml").write_text("")
    assert resolve(method, None, 2).folder == folder


def test_not_published_and_not_here(toy_method: Method, hub: Hub) -> None:
    with pytest.raises(WeightsError, match="not published on the Hub; put their folder into a"):
        resolve(toy_method, None, 2, endpoint=hub.url)
    assert hub.requests == []


def test_description_without_a_full_commit(published: Method, tmp_path: Path) -> None:
    ref = replace(published.weights[0], revision="main")
    with pytest.raises(PluginError, match="40 digits"):
        resolve(replace(published, weights=(ref,)), None, 2, cache_dir=tmp_path)
