"""Extras as files: trajectories of volumes, slices and pictures, fields, and the animation."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from regtool.engine.extras import Extras, read_state
from regtool.engine.request import Inputs
from regtool.imaging.animation import write_animation
from regtool.imaging.resample import resample
from regtool.imaging.transforms import read_field
from regtool.imaging.volume import Volume
from regtool.imaging.writing import Outputs
from regtool.plugins.exchange import Extra, Prediction
from regtool.prepare.pair import prepare_pair
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid
from regtool.spatial.smooth import gaussian


def grid(shape: tuple[int, ...]) -> Grid:
    """A turned grid off the origin with thick slices."""
    ndim, c, s = len(shape), np.cos(0.3), np.sin(0.3)
    turn = np.eye(ndim)
    turn[:2, :2] = [[c, -s], [s, c]]
    spacing = (1.2, 1.5, 6.0)[:ndim]
    return Grid(tuple(reversed(shape)), spacing, tuple(turn.ravel()), (5.0, -3.0, 2.0)[:ndim])


def case(shape: tuple[int, ...], sliced: bool) -> tuple[Volume, Volume, Extras]:
    """Two smooth images, and three frames from no displacement to a whole one."""
    torch.manual_seed(0)
    images = [gaussian(torch.rand(1, 1, *shape), 1.0)[0, 0].numpy() for _ in range(2)]
    fixed, moving = (Volume(image, grid(shape)) for image in images)
    inner = len(shape) - sliced
    preparation = Preparation.model_validate(
        {"spacing": [1.5, 1.2] if inner == 2 else [6.0, 1.5, 1.2], "size": [None] * inner,
         "multiple": 1, "orientation": "file", "intensity": [{"kind": "minmax"}]}
    )  # fmt: skip
    prepared = prepare_pair(fixed, moving, preparation, slices=0 if sliced else None)
    size = prepared.pair.fixed.image.shape
    u = gaussian(torch.randn(size[0], inner, *size[2:]), 2.0) * 4
    way = torch.stack([0 * u, 0.5 * u, u], 1)
    extras = {
        "Way": Extra(way, "trajectory"),
        "Picture": Extra(prepared.pair.fixed.image, "image"),
        "Field": Extra(u, "field"),
        "Numbers": Extra(torch.zeros(2, 2), "table"),
    }
    affine = np.eye(len(shape) + 1)
    affine[0, -1] = 1.0
    kept = Extras.of(Prediction(u, extras=extras), prepared, Inputs(fixed, moving), affine)
    return fixed, moving, kept


@pytest.mark.parametrize(
    ("shape", "sliced"), [((30, 40), False), ((6, 20, 24), False), ((5, 20, 24), True)]
)
def test_a_trajectory_is_the_moving_image_through_its_own_fields(tmp_path, shape, sliced):
    fixed, moving, extras = case(shape, sliced)
    with Outputs(tmp_path / "a_", []) as outputs:
        extras.write(outputs)
    names = sorted(path.name for path in tmp_path.iterdir())
    fields = [f"a_Way0{n}Warp.nii.gz" for n in (1, 2, 3)]
    assert names == sorted(["a_Way.nii.gz", "a_Way.gif", "a_Field.nii.gz", "a_Picture.nii.gz",
                            *fields])  # fmt: skip
    series = nib.load(tmp_path / "a_Way.nii.gz")
    frames = np.moveaxis(np.asarray(series.dataobj), -1, 0)
    for number, name in enumerate(fields):
        field, where = read_field(tmp_path / name)
        assert where.same_as(fixed.grid)
        warped = resample(moving, fixed.grid, [(field, where), extras.affine])
        assert np.allclose(frames[number].squeeze(), warped.T.squeeze(), atol=1e-5)
    whole, _ = read_field(tmp_path / fields[-1])
    alone, _ = read_field(tmp_path / "a_Field.nii.gz")
    assert np.array_equal(whole, alone)
    still, _ = read_field(tmp_path / fields[0])
    assert not still.any() and np.abs(whole).max() > 1


@pytest.mark.parametrize(("shape", "sliced"), [((31, 41), False), ((5, 21, 25), True)])
def test_extras_of_a_coarser_grid_are_enlarged(shape, sliced):
    fixed, moving, extras = case(shape, sliced)
    prepared = extras.prepared
    size = tuple(prepared.pair.fixed.image.shape[2:])
    lines = torch.meshgrid(*(torch.linspace(0, 1, n) for n in size), indexing="ij")
    whole = torch.stack(lines)[None].repeat(prepared.pair.fixed.image.shape[0], 1, 1, 1)
    half = whole[:, :, ::2, ::2]
    coarse = {
        "Shift": Extra(0.5 * half, "field", level=1),  # in voxels twice as wide
        "Map": Extra(half[:, :1], "map", level=1),
        "Way": Extra(torch.stack([0 * half, 0.5 * half], 1), "trajectory", level=1),
        "Numbers": Extra(torch.zeros(2, 2), "table", level=1, columns=("a", "b")),
    }
    inputs = Inputs(fixed, moving)
    kept = Extras.of(Prediction(whole, extras=coarse), prepared, inputs, extras.affine).extras
    for found, wanted in (
        (kept["Shift"], whole), (kept["Map"], whole[:, :1]),
        (kept["Way"], torch.stack([0 * whole, whole], 1)),
    ):  # fmt: skip
        assert found.level == 0
        torch.testing.assert_close(found.tensor, wanted)
    assert kept["Numbers"].columns == ("a", "b")


def test_tables_and_states_become_files(tmp_path):
    _, _, extras = case((30, 40), False)
    rows = torch.tensor([[1, 0.1234567890, math.nan], [2000, -1e-9, math.inf]])
    extras.extras.clear()
    extras.extras["Scores"] = Extra(rows, "table", columns=("step", "loss", "rest"))
    state = torch.randn(1, 2, 5, 5, dtype=torch.float64).transpose(2, 3)
    extras.extras["State"] = Extra(state, "state", facts={"number": 7, "name": "a"})
    with Outputs(tmp_path / "a_", []) as outputs:
        extras.write(outputs)
    lines = (tmp_path / "a_Scores.csv").read_text("utf-8").splitlines()
    assert lines == ["step,loss,rest", "1,0.1234568,", "2000,-1e-09,"]
    found, facts = read_state(tmp_path / "a_State.safetensors")
    assert torch.equal(found, state) and facts == {"number": 7, "name": "a"}


def test_images_of_slices_are_stacked_on_the_networks_grid(tmp_path):
    _, _, extras = case((5, 20, 24), True)
    with Outputs(tmp_path / "a_", []) as outputs:
        extras.write(outputs)
    stored = np.asarray(nib.load(tmp_path / "a_Picture.nii.gz").dataobj)
    assert np.array_equal(stored.T, extras.prepared.pair.fixed.image[:, 0].numpy())


@pytest.mark.parametrize("shape", [(30, 40), (4, 30, 40)])
def test_an_animation_shows_every_frame_with_square_pixels(tmp_path, shape):
    series = np.zeros((6, *shape), dtype=np.float32)
    for number in range(6):
        series[number, ..., 10 : 12 + 2 * number, 5:20] = 1.0
    spacing = (8.0, 2.0, 1.0)[-len(shape) :]
    write_animation(tmp_path / "a.gif", series, spacing)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 6
        width, height = film.size
        film.seek(5)
        last = np.asarray(film.convert("L"))
    assert height / width == pytest.approx(60 / 40, rel=0.01)
    assert last[height // 2, width // 4] > 200 > 50 > last[height // 2, -5]


def test_the_animation_of_a_volume_shows_the_slice_that_changes(tmp_path):
    series = np.zeros((3, 5, 20, 20), dtype=np.float32)
    series[:, :, :10] = 0.5
    series[1:, 3, 12:] = 1.0
    write_animation(tmp_path / "a.gif", series, (5.0, 1.0, 1.0))
    with Image.open(tmp_path / "a.gif") as film:
        film.seek(film.n_frames - 1)  # equal frames are one
        assert np.asarray(film.convert("L"))[-5, 5] > 200


def test_a_constant_series_is_still_written(tmp_path):
    write_animation(tmp_path / "a.gif", np.ones((2, 8, 8), dtype=np.float32), (1.0, 1.0))
    with Image.open(tmp_path / "a.gif") as film:
        assert min(film.size) >= 256
