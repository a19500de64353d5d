"""What fuzzing and reading found in data sets, states and options: refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fuzz_weights import FACTS, SHAPE
from fuzz_weights import _saved as saved_state

from regtool.data.readers import open_data
from regtool.engine.cohort.plan import shard
from regtool.engine.evaluate.series import parse_frames
from regtool.engine.extras import read_state
from regtool.engine.repeat.compare import compare
from regtool.engine.repeat.rerun import requested
from regtool.engine.sampling.state import resume
from regtool.engine.training.checkpoint import save_tensors
from regtool.engine.training.dataset import CACHE_FORMAT, load_store
from regtool.engine.training.lock import locked
from regtool.engine.training.settings import apply_overrides
from regtool.engine.training.stop import parse_duration
from regtool.errors import InputError, UsageError
from regtool.paths import resolved
from regtool.plugins.sampling_options import SamplingOptions

DIGITS = "9" * 5000
"""More than Python turns into an int."""


@pytest.mark.parametrize(
    "spec",
    [
        f"breathing:phantom?n={DIGITS}",
        f"breathing:phantom?seed={DIGITS}",
        "breathing:phantom?n=100001",
        f"phantom:heart2d?size={DIGITS}",
        "phantom:heart2d?n=100001",
        "phantom:heart2d?n=\u0661\u0662",
        "dirlab:.?offset=32768",
    ],
)
def test_numbers_that_are_too_large(spec: str) -> None:
    with pytest.raises(UsageError, match="a whole number from"):
        open_data(spec)


def patient(root: Path, info: str) -> Path:
    folder = root / "patient001"
    folder.mkdir()
    (folder / "Info.cfg").write_text(info)
    return root


@pytest.mark.parametrize("info", [f"ES: {DIGITS}\n", "\n" * 300_000], ids=["digits", "lines"])
def test_a_hostile_info(tmp_path: Path, info: str) -> None:
    """The second took time in proportion to the square of its length."""
    with pytest.raises(InputError, match="no line 'ES: N'"):
        open_data(f"acdc:{patient(tmp_path, info)}")


def test_an_index_nested_too_deeply(tmp_path: Path) -> None:
    root = patient(tmp_path, "ED: 1\nES: 2\n")
    (root / "index.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="not readable as JSON"):
        open_data(f"acdc:{root}")


def test_copies_in_the_home_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a folder of that name, as everywhere."""
    monkeypatch.chdir(tmp_path)
    for person in range(5):
        folder = tmp_path / f"IXI00{person}-Guys-0001-T1.nii"
        folder.write_bytes(b"never read")
    pairs = open_data("ixi:.?nifti=~nobody-of-this-name/x&split=train&val=1")
    assert all(pair.split == "train" for pair in pairs)


def test_paths_that_cannot_be_looked_up(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert resolved("a\0b") == Path("a\0b")
    assert resolved("~nobody-of-this-name/x").name == "x"
    assert resolved(tmp_path / "loop").name == "loop"


@pytest.mark.parametrize("text", ["-" * 3000 + "1", "-" * 100_000 + "1"])
def test_an_override_nested_too_deeply(text: str) -> None:
    preset = {"network": {"variant": "1"}}
    assert apply_overrides(preset, [f"network.variant={text}"])["network"]["variant"] == text


def test_an_override_beyond_floats() -> None:
    with pytest.raises(UsageError, match="too large"):
        apply_overrides({"training": {"weight": 0.5}}, ["weight=" + "9" * 400])


@pytest.mark.parametrize("name", ["output", "overwrite", "report", "report_pngs", "command"])
def test_a_record_names_no_place_to_write_to(name: str) -> None:
    """``regtool rerun`` of a stranger's record wrote a page wherever that said."""
    content = {"request": {"fixed": "a.nii", "moving": "b.nii", name: "elsewhere"}}
    with pytest.raises(InputError, match=f"asks for '{name}'"):
        requested("r_regtool.json", content)


@pytest.mark.parametrize(
    "changes",
    [
        {"begin": 20},
        {"number": -1},
        {"number": 10**9},
        {"seed": -1},
        {"seed": 1e400},
        {"sampler": "magic"},
        {"steps": [1]},
        {"eta": "x"},
        {"clamp": -1},
    ],
    ids=str,
)
def test_a_state_of_a_sampling(tmp_path: Path, changes: dict[str, Any]) -> None:
    """What a stranger's file may say about where to go on from."""
    file = tmp_path / "State.safetensors"
    file.write_bytes(saved_state(json.dumps({**FACTS, **changes})))
    with pytest.raises(InputError, match="not a state of a sampling"):
        resume(str(file), SamplingOptions(), SHAPE, 20, cast(Any, None))


def test_facts_nested_too_deeply(tmp_path: Path) -> None:
    file = tmp_path / "State.safetensors"
    file.write_bytes(saved_state("[" * 50_000))
    with pytest.raises(InputError, match="not a state to go on from"):
        read_state(file)


@pytest.mark.parametrize("text", [f"{DIGITS}:1", f"0:{DIGITS}"])
def test_frames_without_end(text: str) -> None:
    with pytest.raises(UsageError, match="two frames"):
        parse_frames(text)


@pytest.mark.parametrize("text", [f"{'9' * 400}:00:00", f"{DIGITS}:00:00", f"{DIGITS}s"])
def test_durations_without_end(text: str) -> None:
    with pytest.raises(UsageError, match="--time-limit"):
        parse_duration(text)


def test_a_shard_without_end() -> None:
    with pytest.raises(UsageError, match="--shard"):
        shard([], f"1/{DIGITS}")


def test_a_lock_that_is_a_link(tmp_path: Path) -> None:
    """In a run folder of somebody else it may lead to any file; that one stays as it is."""
    (tmp_path / "precious").write_text("here")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with locked(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "here"


@pytest.mark.parametrize("about", ["[" * 50_000, "[]", "{}", '{"names": 1, "items": [{}]}', "x"])
def test_damaged_notes_of_prepared_pairs(tmp_path: Path, about: str) -> None:
    """The pairs are then prepared again."""
    file = tmp_path / "train.safetensors"
    metadata = {"format": CACHE_FORMAT, "key": "k", "about": about}
    save_tensors(file, {"0/fixed/image": torch.zeros(2)}, metadata)
    assert load_store(file, "k") is None


@pytest.mark.parametrize("companions", [5, [["fixed"]], [{}], "fixed", True])
def test_compared_records_of_strange_parts(tmp_path: Path, companions: Any) -> None:
    content = {"schema": 1, "kind": "registration", "request": {"fixed": "a"}, "warnings": [["a:"]]}
    record = tmp_path / "r_regtool.json"
    record.write_text(json.dumps({**content, "companions": companions}))
    other = tmp_path / "s_regtool.json"
    other.write_text(json.dumps(content))
    assert [fact.name for fact in compare(record, other).facts] == ["companions"]
