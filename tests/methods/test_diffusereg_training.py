"""Training DiffuseReg: fields from a method, resumed runs, what weights hold, conformance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import training_cases
from training_cases import whole_and_resumed

import regtool
from regtool.data.loading import load_image
from regtool.data.readers import open_data
from regtool.engine.training.checkpoint import load_tensors
from regtool.engine.training.run import TrainRequest, train
from regtool.errors import UsageError
from regtool.testing import check_method
from regtool.weights.state import load_state
from regtool_diffusereg.plugin import regtool_method

SMALL = ("network.width=4", "network.heads=(1, 2, 2, 4)", "preparation.size=(8, 24, 24)",
         "fields_options.preset=fast")  # fmt: skip


def request(folder: Path, *words: str) -> TrainRequest:
    """A run of three steps on generated hearts, validated with two steps of DDIM."""
    short = ("steps=3", "val_every=3", "options.steps=2")
    made = training_cases.request(folder, "diffusereg", 3, *SMALL, *short, *words)
    made.assignments = [word for word in made.assignments if "slices_first" not in word]
    return made


def test_a_stopped_run_continues_bit_for_bit(tmp_path, monkeypatch):
    """The fields come from the run folder the second time; without them they are found again."""
    brief = "fields_options.iterations=(8, 6, 4)"
    whole, resumed = whole_and_resumed(lambda f: request(f, brief), tmp_path, monkeypatch, 3)
    assert resumed == whole
    kept = tmp_path / "stopped" / "cache" / "train-fields.safetensors"
    before = load_tensors(kept)[0]
    kept.unlink()
    (tmp_path / "stopped" / "checkpoint.safetensors").unlink()
    train(TrainRequest(output=tmp_path / "stopped", resume=True, threads=1))
    again = load_tensors(kept)[0]
    assert before.keys() == again.keys() and len(before) == 4
    assert all(torch.equal(again[name], tensor) for name, tensor in before.items())
    assert training_cases.weights(tmp_path / "stopped") == whole


def test_weights_carry_the_statistics_of_their_fields(tmp_path):
    train(request(tmp_path / "run"))
    (config,) = (tmp_path / "run").glob("weights/*/config.json")
    facts = json.loads(config.read_text())["training"]["fields"]
    state = load_state(config.parent / "model.safetensors")
    assert facts["from"] == "optimise" and facts["options"] == {"preset": "fast"}
    for name in ("mean", "std"):
        assert state[name].tolist() == pytest.approx(facts[name], rel=2e-3, abs=1e-4)
    assert min(facts["std"]) > 0.05
    pair = next(iter(open_data("phantom:heart3d?n=1&size=32")))
    result = regtool.register(
        load_image(pair.fixed), load_image(pair.moving), "diffusereg",
        weights=str(config.parent), settings={"steps": 2, "samples": 2, "previews": 1},
        output=tmp_path / "a_",
    )  # fmt: skip
    assert (tmp_path / "a_Deviation.nii.gz").exists() and (tmp_path / "a_Previews.nii.gz").exists()
    assert result.record["sampling"]["sampler"] == "ddim"


def test_a_field_provider_without_weights_is_an_error_and_none_needs_none(tmp_path):
    with pytest.raises(UsageError, match="neither a folder nor a method"):
        train(request(tmp_path / "a", "fields=no-such-method"))
    train(request(tmp_path / "b", "fields=none", "steps=1", "val_every=1"))
    assert not (tmp_path / "b" / "cache" / "train-fields.safetensors").exists()


def conformant() -> Mapping[str, Any]:
    """The shipped preset with a small network and a learning rate for one pair."""
    preset = dict(regtool_method().presets["acdc-3d"])
    preset["network"] = {**preset["network"], "width": 4, "heads": (1, 2, 2, 4)}
    training = {"lambda_similarity": 0.0, "lambda_smoothness": 0.0, "lr": 5e-3, "focus": 1.0}
    preset["training"] = {**preset["training"], **training}
    return preset


def test_conformance():
    torch.manual_seed(0)
    method = replace(regtool_method(), presets={"acdc-3d": conformant()})
    check_method(
        method, preset="acdc-3d", shapes={3: (8, 16, 24)}, steps=150, options={"steps": 3}
    )  # fmt: skip
