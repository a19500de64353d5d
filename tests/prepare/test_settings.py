"""The limits and defaults of a Preparation, and its reading from stored weights."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from regtool.errors import WeightsError
from regtool.imaging.volume import Volume
from regtool.prepare.intensity import normalise
from regtool.prepare.pair import as_preparation, prepare_pair
from regtool.prepare.preparation import BiasField, Percentile, Preparation, Window, ZScore
from regtool.spatial.grid import Grid

FLAT = Grid((24, 24), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))


def test_defaults_are_those_of_the_documentation():
    assert (Percentile().low, Percentile().high, Percentile().of) == (0.5, 99.5, "image")
    assert (Window().low, Window().high) == (-1000.0, 500.0)
    assert (ZScore().limit, BiasField().shrink) == (3.0, 4)
    plain = Preparation(spacing=(1.0, 1.0), size=(None, None))
    assert plain.model_dump(exclude={"spacing", "size", "intensity"}) == {
        "orientation": "file", "multiple": 16, "fit": (), "margin": 0, "anchor": "centre",
        "outside": "taper", "taper": 16, "overlap": 0.5, "intensity_on": "image",
        "initial": "none",
    }  # fmt: skip


def test_values_at_their_limits():
    assert ZScore(limit=0.25).limit == 0.25
    assert BiasField(shrink=1).shrink == 1
    kept = {"spacing": (1.0, 1.0), "size": (32, 32)}
    assert Preparation(**kept, margin=0, overlap=0.0, taper=1, multiple=1).margin == 0
    assert Preparation(**kept, fit=(True, False), margin=15).margin == 15
    for wrong in ({"overlap": 1.0}, {"taper": 0}, {"margin": -1}, {"multiple": 0},
                  {"fit": (True, True), "margin": 16}):  # fmt: skip
        with pytest.raises(ValidationError):
            Preparation(**kept, **wrong)
    for wrong in ((1e-7, 1.0), (1.0, 2e6), (0.0, 1.0)):
        with pytest.raises(ValidationError, match="spacing"):
            Preparation(spacing=wrong, size=(32, 32))
    with pytest.raises(ValidationError, match="at most 65536"):
        Preparation(spacing=(1.0, 1.0), size=(65537, 32))
    for step in (ZScore, BiasField):
        with pytest.raises(ValidationError):
            step(limit=0) if step is ZScore else step(shrink=0)


def test_letters_are_taken_in_either_case():
    assert Preparation(orientation="ras", spacing=(1.0,) * 3, size=(8,) * 3).orientation == "RAS"


def test_stored_preparations_are_read_and_bad_ones_are_the_weights_fault():
    stored = Preparation(spacing=(1.0, None), size=(None, 64)).model_dump(mode="json")
    assert as_preparation({"preparation": stored}).size == (None, 64)
    with pytest.raises(WeightsError, match=r"preparation\.multiple"):
        as_preparation({"preparation": {**stored, "multiple": 0}})
    with pytest.raises(WeightsError, match="no entry 'preparation'"):
        as_preparation({})


@pytest.mark.parametrize("step", [ZScore(of="mask"), Percentile(of="mask")])
def test_a_mask_says_nothing_of_intensities_of_the_box(step):
    kept = {"spacing": (1.0, 1.0), "size": (32, 32), "intensity": (Window(), step)}
    assert Preparation(**kept).intensity_on == "image"
    with pytest.raises(ValidationError, match="mask"):
        Preparation(**kept, intensity_on="box")


def test_an_image_without_a_foreground_has_no_bias_to_correct():
    constant = Volume(np.full((24, 24), 5.0, np.float32), FLAT)
    (same,) = normalise([constant], [BiasField(), Window(low=0, high=10)], [None])
    assert np.allclose(same.array, 0.5)
    with pytest.raises(TypeError, match="unknown"):
        normalise([constant], ["flat"], [None])  # type: ignore[list-item]


def texture() -> Volume:
    values = np.random.default_rng(0).uniform(size=(24, 24)).astype(np.float32)
    return Volume(values, FLAT)


@pytest.mark.parametrize(("step", "smooth"), [(1.4, False), (1.5, True)])
def test_only_a_clearly_coarser_grid_is_smoothed_for(step, smooth):
    """Box averaging over 1.4 voxels adds the variance of a Gaussian of 0.28 voxels, 1.5 of 0.32."""
    prepared = prepare_pair(
        texture(), texture(),
        Preparation(spacing=(step, step), size=(8, 8), intensity=(Window(low=0, high=1),)),
    )  # fmt: skip
    first = (prepared.grid.index_to_world @ np.array([3.0, 4.0, 1.0]))[:2]
    x, y = first
    low = np.floor(first).astype(int)
    values, (fx, fy) = texture().array, first - low
    corners = values[low[1] : low[1] + 2, low[0] : low[0] + 2]
    exact = np.array([1 - fy, fy]) @ corners @ np.array([1 - fx, fx])
    read = float(prepared.pair.fixed.image[0, 0, 4, 3])
    assert (abs(read - exact) > 1e-3) == smooth, (x, y)


@pytest.mark.parametrize(
    ("degrees", "smooth"), [(0, "y"), (25, "y"), (35, "y"), (44, "y"), (46, "x"), (55, "x")]
)
def test_a_turned_moving_image_is_smoothed_along_its_axis_nearest_to_the_coarse_one(
    degrees, smooth
):
    """The network's pixels are 4 mm high and 1 mm wide; the image's 1 mm both ways, turned."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    fixed = Grid((64, 64), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (-31.5, -31.5))
    direction = np.array([[c, -s], [s, c]])
    origin = -direction @ (31.5, 31.5)
    turned = Grid((64, 64), (1.0, 1.0), tuple(direction.ravel()), tuple(origin))
    stripes = np.broadcast_to(np.arange(64) % 2, (64, 64)).astype(np.float32)  # along x
    settings = Preparation(
        spacing=(4.0, 1.0), size=(8, 32), intensity=(Window(low=0, high=1),), multiple=1
    )
    for axis, values in (("x", stripes), ("y", stripes.T)):
        still, moving = Volume(np.zeros((64, 64), np.float32), fixed), Volume(values, turned)
        pair = prepare_pair(still, moving, settings).pair
        left = float(pair.moving.image[0, 0].std())
        assert (left < 0.05) == (axis == smooth), (axis, left)


def test_modalities_go_to_their_images_and_slices_take_no_points():
    grid = Grid((24, 24, 3), (1.0, 1.0, 5.0), tuple(np.eye(3).ravel()), (0.0,) * 3)
    image = Volume(np.random.default_rng(0).uniform(size=grid.shape).astype(np.float32), grid)
    points = np.array([[3.0, 4.0, 5.0]])
    prepared = prepare_pair(
        image, image, Preparation(spacing=(1.0, 1.0), size=(16, 16)), slices=0,
        fixed_points=points, moving_points=points, modalities={"fixed": "CT", "moving": "MR"},
    )  # fmt: skip
    pair = prepared.pair
    assert (pair.fixed.modality, pair.moving.modality) == ("CT", "MR")
    assert pair.fixed.points is None and pair.moving.points is None
    assert pair.fixed.spacing == (1.0, 1.0) and len(pair.fixed.directions) == 2
    plain = prepare_pair(image, image, Preparation(spacing=(5.0, 1.0, 1.0), size=(3, 16, 16)))
    assert plain.pair.fixed.modality is None


def test_the_box_is_placed_on_the_fixed_image():
    bright = np.zeros((24, 24), np.float32)
    bright[2:6, 16:22] = 1
    other = np.ascontiguousarray(bright.T)
    prepared = prepare_pair(
        Volume(bright, FLAT), Volume(other, FLAT),
        Preparation(spacing=(1.0, 1.0), size=(8, 8), anchor="intensity"),
    )  # fmt: skip
    assert np.allclose(prepared.grid.centre, (18.5, 3.5), atol=0.51)
