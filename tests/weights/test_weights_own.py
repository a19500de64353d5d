"""A user's own weights: run folders, REGTOOL_WEIGHTS_DIR, and names that are nearly right."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from loopback_hub import Hub
from weights_toy import Shell, toy_config

from regtool.errors import WeightsError
from regtool.plugins import discovery
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import resolve
from regtool.weights.places import in_vain


@pytest.fixture
def run_folder(tmp_path: Path, toy_folder: Path) -> Path:
    """A run folder with one exported weights folder."""
    shutil.copytree(toy_folder, tmp_path / "run" / "weights" / "toy-small")
    (tmp_path / "run" / "settings.json").write_text("{}")
    return tmp_path / "run"


def test_a_run_folder_stands_for_its_weights(toy_method: Method, run_folder: Path) -> None:
    wanted = run_folder / "weights" / "toy-small" / "model.safetensors"
    for spec in (run_folder, run_folder / "weights", wanted.parent):
        assert resolve(toy_method, str(spec), 2).model == wanted


def test_a_run_folder_with_several_names_them(toy_method: Method, run_folder: Path) -> None:
    shutil.copytree(run_folder / "weights/toy-small", run_folder / "weights/toy-sup")
    for spec in (run_folder, run_folder / "weights"):
        with pytest.raises(WeightsError) as caught:
            resolve(toy_method, str(spec), 2)
        for name in ("toy-small", "toy-sup"):
            assert str(run_folder / "weights" / name) in str(caught.value)


def test_verify_takes_a_run_folder(shell: Shell, run_folder: Path) -> None:
    sound = shell("verify", str(run_folder))
    assert sound.code == 0, sound.err


def test_weights_of_another_method_name_it(
    toy_method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = WeightsRef("other-brain", 2, "brain", "MR", "CC0", "")
    other = replace(toy_method, name="other", weights=(ref,))
    monkeypatch.setattr(discovery, "load_all", lambda: ([toy_method, other], []))
    with pytest.raises(WeightsError, match="'other-brain' belong to method 'other': use -m other"):
        resolve(toy_method, "other-brain", 2)
    with pytest.raises(WeightsError, match=r"did you mean 'other-brain' \(-m other\)"):
        resolve(toy_method, "other-brian", 2)
    with pytest.raises(WeightsError, match=r"did you mean 'toy-brain'\?"):
        resolve(toy_method, "toy-brian", 2)


def test_a_weights_directory_that_is_not_there(
    toy_method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    absent = str(tmp_path / "tpyo")
    monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", absent)
    words = f"REGTOOL_WEIGHTS_DIR ({absent}, which is no folder)"
    for spec in ("my-flow", None):
        with pytest.raises(WeightsError) as caught:
            resolve(toy_method, spec, 2)
        assert words in str(caught.value)
    listed = shell("list", REGTOOL_WEIGHTS_DIR=absent)
    assert listed.code == 0 and listed.err.count(words) == 1
    assert words in shell("path", "my-flow", REGTOOL_WEIGHTS_DIR=absent).error


def test_own_weights_are_listed_found_and_verified(
    shell: Shell, tmp_path: Path, toy_folder: Path
) -> None:
    shutil.copytree(toy_folder, tmp_path / "store" / "my-flow")
    (tmp_path / "store" / "notes").mkdir()
    (tmp_path / "store" / "broken").mkdir()
    (tmp_path / "store" / "broken" / "config.json").write_text("{}")
    here = {"REGTOOL_WEIGHTS_DIR": str(tmp_path / "store")}
    listed = shell("list", **here)
    [line] = [line for line in listed.out.splitlines() if line.startswith("my-flow")]
    assert "toy" in line and "2-D" in line and line.endswith("REGTOOL_WEIGHTS_DIR")
    assert "damaged" in listed.out and "notes" not in listed.out
    rows = {row["name"]: row for row in json.loads(shell("list", "toy", "--json", **here).out)}
    assert set(rows) == {"toy-brain", "my-flow"}
    assert rows["my-flow"]["path"] == str(tmp_path / "store" / "my-flow")
    found = shell("path", "my-flow", **here)
    assert found.out.strip() == str(tmp_path / "store" / "my-flow"), found.err
    verified = shell("verify", "my-flow", **here)
    assert (verified.code, verified.out.split()[:2]) == (0, ["my-flow", "toy"])
    everything = shell("verify", **here)
    assert everything.code == 4 and "1 of 3 failed" in everything.error
    assert [line.split()[0] for line in everything.out.splitlines()] == [
        *("toy-brain", "broken", "my-flow"),
    ]


def test_own_weights_under_a_name_that_is_taken(
    shell: Shell, tmp_path: Path, toy_folder: Path
) -> None:
    """They have the licence and the anatomy of their own config, not those of the shipped ones."""
    folder = shutil.copytree(toy_folder, tmp_path / "store" / "toy-brain")
    here = {"REGTOOL_WEIGHTS_DIR": str(tmp_path / "store")}
    assert "other than pinned" not in shell("list", **here).out
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x7f")
    config = toy_config(anatomy="heart", modality="phantom", licence="mine")
    (folder / "config.json").write_text(json.dumps(config))
    [line] = [x for x in shell("list", **here).out.splitlines() if x.startswith("toy-brain")]
    assert line.split()[3:6] == ["heart", "phantom", "mine"]
    assert line.endswith("REGTOOL_WEIGHTS_DIR, other than pinned")
    [row] = json.loads(shell("list", "--json", **here).out)
    assert row["other_than_pinned"] and row["licence"] == "mine"
    assert "takes the place of the weights 'toy-brain'" in shell("path", "toy-brain", **here).error


def test_a_name_that_is_nearly_right(shell: Shell) -> None:
    assert "did you mean 'toy-brain'?" in shell("path", "toybrain").error


def test_own_names_are_offered(
    toy_method: Method,
    tmp_path: Path,
    toy_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: Shell,
) -> None:
    shutil.copytree(toy_folder, tmp_path / "store" / "my-hearts")
    monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", str(tmp_path / "store"))
    said = "method 'toy' has no weights '{}', and '{}' is no path; {}"
    for spec, hint in {
        "my-heart": "did you mean 'my-hearts'?",
        "runs": "it has: toy-brain; my-hearts in REGTOOL_WEIGHTS_DIR",
    }.items():
        with pytest.raises(WeightsError) as caught:
            resolve(toy_method, spec, 2)
        assert str(caught.value) == said.format(spec, spec, hint)
    with pytest.raises(WeightsError, match=r"has no named weights, .* my-hearts in REGTOOL_WEI"):
        resolve(replace(toy_method, weights=()), "runs", 2)
    found = shell("path", "my-heart", REGTOOL_WEIGHTS_DIR=str(tmp_path / "store"))
    assert "did you mean 'my-hearts'?" in found.error


def test_a_weights_directory_that_is_one_level_too_deep(
    toy_method: Method, toy_folder: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for top, words in {
        toy_folder: "which is itself a folder of weights) is passed over: give its parent",
        run_folder: "which is the folder of a training run) is passed over: "
        f"give {run_folder / 'weights'}",
    }.items():
        monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", str(top))
        with pytest.raises(WeightsError) as caught:
            resolve(toy_method, "my-flow", 2)
        assert f"REGTOOL_WEIGHTS_DIR ({top}, {words}" in str(caught.value)
    monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", str(run_folder / "weights"))
    assert resolve(toy_method, "toy-small", 2).name == "toy-small"
    assert in_vain() == ""


def test_a_weights_directory_in_vain_is_told_once(
    published: Method,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where the weights come from elsewhere, which need not be those that were meant."""
    absent = str(tmp_path / "tpyo")
    monkeypatch.setenv("REGTOOL_WEIGHTS_DIR", absent)
    for _ in range(2):
        resolve(published, None, 2, endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert caplog.messages == [f"REGTOOL_WEIGHTS_DIR ({absent}, which is no folder) is passed over"]
