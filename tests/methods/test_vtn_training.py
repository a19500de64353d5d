"""Training VTN: stopped and resumed runs, what a trained cascade writes, conformance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from training_cases import whole_and_resumed

from regtool.engine.training.run import TrainRequest, train
from regtool.testing import check_method
from regtool_vtn.plugin import regtool_method


def request(folder: Path, *words: str) -> TrainRequest:
    """A run of a few steps on generated hearts, with a checkpoint after every second."""
    words = ("preparation.size=(8, 24, 24)", "network.widths=(4, 4, 8, 8)", "network.integrate=1",
             "steps=4", "slices_first.steps=2", "checkpoint_every=2", "val_every=2",
             "log_every=1", "teacher=0", "second_look=0.5", *words)  # fmt: skip
    return TrainRequest(
        output=folder, method="vtn", preset="acdc-3d",
        data=["phantom:heart3d?n=3&size=32"], assignments=list(words), threads=1,
    )  # fmt: skip


def test_a_stopped_run_continues_bit_for_bit(tmp_path, monkeypatch):
    whole, resumed = whole_and_resumed(request, tmp_path, monkeypatch, stop=6)
    assert resumed == whole


def test_the_files_chain_to_what_was_written_as_warped(tmp_path):
    """Affine, field and stages on disk, chained by SimpleITK in the README's order."""
    import regtool
    from regtool.data.loading import load_image
    from regtool.data.readers import open_data

    # The fixed image's own grid and two stems: at its voxels nothing is interpolated twice.
    train(request(
        tmp_path / "run", "preparation.spacing=(None, None, None)", "network.stems=2",
        "preparation.size=(None, None, None)", "preparation.fit=(False, False, False)",
        "network.flow_init=0.02", "lr=0.05", "clip=100.0",
    ))  # fmt: skip
    (config,) = (tmp_path / "run").glob("weights/*/config.json")
    pair = next(iter(open_data("phantom:heart3d?n=1&size=32")))
    moving = load_image(pair.moving)
    regtool.register(
        load_image(pair.fixed), moving, "vtn", output=tmp_path / "a_",
        weights=str(config.parent), settings={"passes": 1, "stages": True},
    )  # fmt: skip
    affine = sitk.ReadTransform(str(tmp_path / "a_0GenericAffine.mat"))
    assert not np.allclose(affine.GetParameters(), [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], atol=1e-3)
    whole = composite(affine, tmp_path / "a_1Warp.nii.gz")
    stages = composite(affine, *(tmp_path / f"a_Stage{n}Warp.nii.gz" for n in (1, 2)))
    turned = composite(affine, *(tmp_path / f"a_Stage{n}Warp.nii.gz" for n in (2, 1)))
    warped = sitk.ReadImage(str(tmp_path / "a_Warped.nii.gz"))
    apart = []
    for index in [(14, 15, 5), (16, 16, 6), (18, 14, 7), (15, 18, 6)]:
        point = warped.TransformIndexToPhysicalPoint(index)
        one, other, third = (
            np.array(chain.TransformPoint(point)) for chain in (whole, stages, turned)
        )
        assert np.linalg.norm(one - point) > 1
        assert np.allclose(one, other, atol=0.01)
        apart.append(np.linalg.norm(third - one))
    assert max(apart) > 0.1
    image = sitk.GetImageFromArray(moving.array.astype(np.float32))
    image.CopyInformation(warped)  # generated pairs share their grid
    again = sitk.GetArrayFromImage(sitk.Resample(image, warped, whole, sitk.sitkLinear))
    inside = (slice(4, 8), slice(8, 24), slice(8, 24))
    found = sitk.GetArrayFromImage(warped)
    assert np.abs(again - found)[inside].max() <= 1.0  # integers
    assert np.abs(found - moving.array)[inside].max() > 20


def composite(affine: sitk.Transform, *fields: Path) -> sitk.CompositeTransform:
    """The affine after the fields; of these the last is applied first."""
    chain = sitk.CompositeTransform(3)
    chain.AddTransform(affine)
    for path in fields:
        image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
        chain.AddTransform(sitk.DisplacementFieldTransform(image))
    return chain


def test_conformance():
    """The preset for a CPU, narrower and without its teacher, which would take most of the time."""
    method = regtool_method()
    made = dict(method.presets)
    preset = made["acdc-3d"]
    made["acdc-3d"] = {
        **preset,
        "network": {**preset["network"], "widths": (4, 8, 16, 16), "integrate": 2},
        "training": {**preset["training"], "teacher": 0.0},
    }
    check_method(
        replace(method, presets=made), preset="acdc-3d", shapes={3: (16, 16, 32)}, steps=150
    )
