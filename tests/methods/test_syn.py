"""SyN behind regtool: the fields of ANTs itself, its inverse, masks, 2-D, slices, clean folders."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from peer_cases import apart, files, gain, heart, size
from registration_cases import read_array

import regtool
from regtool.api import Context
from regtool.api.spatial import compose
from regtool.engine.worker import call
from regtool.errors import GeometryError, PluginError
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid
from regtool.testing.pairs import shifted_pair

ants = pytest.importorskip(
    "ants", reason="antspyx is not installed: pip install 'regtool[syn]'", exc_type=ImportError
)

from regtool_syn.model import build  # noqa: E402
from regtool_syn.options import SynOptions  # noqa: E402

BRIEF = {"iterations": (30, 20, 5), "radius": 2}
MUTUAL = {"metric": "mattes", "iterations": (20, 10, 5)}


@pytest.mark.parametrize(
    ("ndim", "direction", "share"),
    # On rotated axes ANTs limits its steps by the spacings of other axes, so its own result
    # depends a little on how the voxels lie in the room; regtool's does not.
    [(2, "identity", 0.01), (2, "flipped", 0.01), (2, "oblique", 0.1), (2, "permuted", 0.1),
     (3, "flipped", 0.05), (3, "oblique", 0.3)],
)  # fmt: skip
def test_the_field_is_the_one_that_ants_writes(tmp_path, ndim, direction, share):
    pair = files(tmp_path, direction, ndim)
    settings = BRIEF if ndim == 2 else MUTUAL
    theirs = ants.registration(
        ants.image_read(pair.fixed), ants.image_read(pair.moving), "SyNOnly",
        initial_transform="Identity", outprefix=f"{tmp_path}/o", grad_step=0.1, flow_sigma=3,
        total_sigma=0, syn_metric="CC" if ndim == 2 else "mattes",
        syn_sampling=2 if ndim == 2 else 32, reg_iterations=settings["iterations"],
    )  # fmt: skip
    ants.image_write(theirs["warpedmovout"], f"{tmp_path}/r.nii.gz")
    mine = regtool.register(pair.fixed, pair.moving, "syn", settings=settings, threads=1)
    field, where = pair.array("o1Warp.nii.gz"), pair.inside
    assert size(field, where) > 0.5
    assert apart(mine.field, field, where) < share * size(field, where)
    difference = np.abs(mine.warped - pair.array("r.nii.gz"))[where]
    assert difference.mean() < 0.2 * share * mine.warped.max()


def test_the_other_metrics_and_quick_are_what_they_say():
    quick = SynOptions(quick=True)
    assert quick.settings()["metric"] == "mattes"
    assert quick.settings()["iterations"] == (100, 70, 50, 0)
    assert SynOptions(quick=True, metric="cc").settings()["metric"] == "CC"
    assert SynOptions().settings()["sampling"] == 4
    pair = heart("heart2d")
    for settings in ({"quick": True}, {"metric": "meansquares", "iterations": (40, 30, 10)}):
        result = regtool.register(**pair, method="syn", settings=settings, threads=1)
        assert gain(result.record) > 0.05, settings
        told = result.record["settings"]
        assert told["metric"] == ("mattes" if "quick" in settings else "meansquares")
        assert told["iterations"] == [100, 70, 50, 0] if "quick" in settings else [40, 30, 10]


def test_dice_of_a_beating_heart_rises_in_3d():
    record = regtool.register(
        **heart("heart3d"), method="syn", settings={"quick": True}, threads=1
    ).record
    assert gain(record) > 0.1
    assert record["jacobian"]["percent"] < 1


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"))


def test_the_inverse_undoes_the_displacement():
    pair = shifted_pair((40, 56), (3, -5), batch=2)
    for sample in (pair.fixed, pair.moving):
        sample.spacing = (2.0, 0.7)
    answer = build({})(pair, SynOptions(**BRIEF), context())
    assert answer.displacement.shape == answer.inverse.shape == (2, 2, 40, 56)
    assert torch.equal(answer.displacement[0], answer.displacement[1])
    middle = (slice(None), slice(None), slice(12, 28), slice(16, 40))
    moved = answer.displacement[middle].abs().mean()
    left = compose(answer.displacement, answer.inverse)[middle].abs().mean()
    assert moved > 1
    assert left < 0.1 * moved


def test_the_mask_decides_what_counts():
    pair = heart("heart2d")
    grid = pair["fixed"].grid
    corner = np.zeros_like(pair["fixed"].array, dtype=np.uint8)
    corner[: grid.shape[0] // 4, : grid.shape[1] // 4] = 1
    run = {"method": "syn", "settings": BRIEF, "threads": 1}
    masked = regtool.register(pair["fixed"], pair["moving"], fixed_mask=Volume(corner, grid), **run)
    whole = regtool.register(pair["fixed"], pair["moving"], **run)
    heart_voxels = pair["fixed_labels"].array > 0
    assert size(masked.field, heart_voxels) < 0.3 * size(whole.field, heart_voxels)


def test_slices_of_a_stack():
    made = heart("heart3d")
    grid = made["fixed"].grid
    thin = Grid((*grid.size[:2], 3), grid.spacing, grid.direction, grid.origin)
    fixed, moving = (Volume(made[name].array[:3], thin) for name in ("fixed", "moving"))
    result = regtool.register(fixed, moving, "syn", slices="z", settings=BRIEF, threads=1)
    assert all(np.abs(plane).max() > 0.5 for plane in result.field)
    across = result.field @ thin.direction_matrix[:, 2]
    assert np.abs(across).max() < 1e-4
    with pytest.raises(GeometryError, match="--slices z"):
        regtool.register(fixed, moving, "syn", settings=BRIEF, threads=1)


def test_two_runs_agree_and_leave_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pair = heart("heart2d")
    runs = [
        regtool.register(pair["fixed"], pair["moving"], "syn", settings=BRIEF, threads=1, seed=n)
        for n in (0, 1)
    ]
    assert np.array_equal(runs[0].field, runs[1].field)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_of_ants_is_one_line():
    flat = np.random.default_rng(0).random((2, 60), dtype=np.float32)  # too thin for ITK
    arguments = {
        "fixed": flat, "moving": flat[:, ::-1], "fixed_mask": None, "moving_mask": None,
        "spacing": (1.0, 1.0), "seed": 0, "threads": 1, "folder": tempfile.gettempdir(),
        **SynOptions(**BRIEF).settings(),
    }  # fmt: skip
    with pytest.raises(PluginError, match="syn: RuntimeError: Registration failed") as caught:
        call("regtool_syn.tool:register", arguments, threads=1, what="syn")
    assert "\n" not in str(caught.value)


def test_ants_applies_what_regtool_wrote(tmp_path):
    pair = files(tmp_path, "oblique", 2)
    done = regtool.register(
        pair.fixed, pair.moving, "syn", settings=BRIEF, threads=1, output=f"{tmp_path}/r_"
    )
    warped = ants.apply_transforms(
        ants.image_read(pair.fixed), ants.image_read(pair.moving),
        [str(Path(tmp_path, "r_1Warp.nii.gz")), str(Path(tmp_path, "r_0GenericAffine.mat"))],
    )  # fmt: skip
    ants.image_write(warped, f"{tmp_path}/a.nii.gz")
    assert np.abs(read_array(tmp_path / "a.nii.gz") - done.warped)[pair.inside].max() < 1
