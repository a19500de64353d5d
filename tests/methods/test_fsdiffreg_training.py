"""Training FSDiffReg: stopped and resumed runs, what a trained network writes, conformance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import training_cases
from training_cases import whole_and_resumed

from regtool.engine.training.run import TrainRequest, train
from regtool.testing import check_method
from regtool_fsdiffreg.plugin import regtool_method


def request(folder: Path, ndim: int, *words: str) -> TrainRequest:
    """A run of four steps without the teacher, after two on slices in 3-D."""
    if ndim == 2:
        form = ("preparation.size=(24, 24)", "network.score.width=8", "network.score.groups=4")
    else:
        form = ("preparation.size=(8, 16, 16)",)
    short = ("steps=4", "val_every=2", "teacher=0")
    return training_cases.request(folder, "fsdiffreg", ndim, *form, *short, *words)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_stopped_run_continues_bit_for_bit(tmp_path, ndim, monkeypatch):
    stop = 4 if ndim == 2 else 6
    whole, resumed = whole_and_resumed(lambda f: request(f, ndim), tmp_path, monkeypatch, stop)
    assert resumed == whole


def test_the_files_of_the_nine_fields_average_to_the_displacement(tmp_path):
    """From training to files: extras are on disk, in the record, and belong together."""
    import regtool
    from regtool.data.loading import load_image
    from regtool.data.readers import open_data
    from regtool.imaging.transforms import read_field

    train(request(tmp_path / "run", 2, "network.integrate=0", "network.flow_init=0.1"))
    (config,) = (tmp_path / "run").glob("weights/*/config.json")
    pair = next(iter(open_data("phantom:heart2d?n=1&size=32")))
    result = regtool.register(
        load_image(pair.fixed), load_image(pair.moving), "fsdiffreg", output=tmp_path / "a_",
        weights=str(config.parent), settings={"passes": 1, "fields": True, "score": True},
    )  # fmt: skip
    fields = [read_field(tmp_path / f"a_Scale{n}Warp.nii.gz")[0] for n in range(1, 10)]
    whole, _ = read_field(tmp_path / "a_1Warp.nii.gz")
    assert np.abs(whole).max() > 0.01
    assert np.allclose(np.mean(fields, 0), whole, atol=1e-3)
    assert (tmp_path / "a_Score.nii.gz").exists() and (tmp_path / "a_Weight.nii.gz").exists()
    assert "a_Scale9Warp.nii.gz" in str(result.record)


@pytest.mark.parametrize("preset", ["trial", "acdc-3d"])
def test_conformance(preset):
    """The 3-D preset without its teacher, which would take most of the time."""
    method = regtool_method()
    made = dict(method.presets)
    made["acdc-3d"] = {**made["acdc-3d"], "training": {**made["acdc-3d"]["training"], "teacher": 0}}
    check_method(
        replace(method, presets=made),
        preset=preset, shapes={2: (32, 40), 3: (8, 16, 24)}, steps=150,
    )  # fmt: skip
