"""greedy behind regtool: the tool's own fields, thin stacks, masks, seeds, 2-D and slices."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import SimpleITK as sitk
from peer_cases import apart, files, gain, heart, size

import regtool
from regtool.errors import GeometryError, UsageError
from regtool.imaging.volume import Volume

picsl_greedy = pytest.importorskip(
    "picsl_greedy", reason="picsl-greedy is not installed: pip install 'regtool[greedy]'"
)

from regtool_greedy.model import possible_levels  # noqa: E402

BRIEF = {"iterations": (30, 20), "metric": "ncc"}


def greedy(ndim: int, line: str, metric: str = "ncc", **images):
    """Run the tool itself with the settings of BRIEF and a metric."""
    tool = getattr(picsl_greedy, f"Greedy{ndim}D")()
    radius = "x".join("2" * ndim)
    tool.execute(
        f"{line} -wp 0 -m {metric.upper()} {radius} -n 30x20 -seed 1 -threads 1 -V 0", **images
    )
    return tool


@pytest.mark.parametrize(
    ("ndim", "direction", "metric"),
    [
        (2, "identity", "ncc"),
        (2, "flipped", "ncc"),
        (2, "identity", "wncc"),
        (3, "identity", "ncc"),
        (3, "flipped", "wncc"),
        (3, "permuted", "ncc"),
    ],
)
def test_the_field_is_the_one_that_greedy_writes(tmp_path, ndim, direction, metric):
    pair = files(tmp_path, direction, ndim)
    tool = greedy(ndim, f"-i {pair.fixed} {pair.moving} -o {tmp_path}/w.nii.gz", metric)
    tool.execute(f"-rf {pair.fixed} -rm {pair.moving} {tmp_path}/r.nii.gz -r {tmp_path}/w.nii.gz")
    settings = BRIEF | {"metric": metric}
    mine = regtool.register(pair.fixed, pair.moving, "greedy", settings=settings, threads=1)
    theirs, where = pair.array("w.nii.gz"), pair.inside
    assert size(theirs, where) > 1
    assert apart(mine.field, theirs, where) < 0.02
    difference = np.abs(mine.warped - pair.array("r.nii.gz"))[where]
    assert difference.max() < 0.005 * mine.warped.max()


@pytest.mark.parametrize("ndim", [2, 3])
def test_oblique_images_are_registered_as_if_they_were_not_rotated(tmp_path, ndim):
    """greedy itself answers a little differently when the same voxels are rotated in the room."""
    pair = files(tmp_path, "oblique", ndim)
    images = {}
    for name in ("fixed", "moving"):
        images[name] = sitk.ReadImage(getattr(pair, name), sitk.sitkFloat64)
        images[name].SetDirection(np.eye(ndim).ravel().tolist())
    straight = sitk.GetArrayFromImage(
        greedy(ndim, "-i fixed moving -o warp", warp=None, **images)["warp"]
    )
    rotated = straight @ pair.grid.direction_matrix.T
    greedy(ndim, f"-i {pair.fixed} {pair.moving} -o {tmp_path}/w.nii.gz")
    theirs, where = pair.array("w.nii.gz"), pair.inside
    mine = regtool.register(pair.fixed, pair.moving, "greedy", settings=BRIEF, threads=1)
    assert apart(mine.field, rotated, where) < 0.05
    assert apart(mine.field, theirs, where) < 0.15 * size(theirs, where)


@pytest.mark.parametrize("kind", ["heart2d", "heart3d"])
def test_dice_of_a_beating_heart_rises(kind):
    record = regtool.register(**heart(kind), method="greedy", threads=1).record
    assert gain(record) > 0.15
    assert record["jacobian"]["percent"] < 1


@pytest.mark.parametrize(
    ("settings", "least"),
    # Mutual information gains little in greedy itself: 0.04 on the same images.
    [({"metric": "ssd"}, 0.1), ({"metric": "nmi"}, 0.01), ({"velocity": True}, 0.1)],
)
def test_other_settings_register_too(settings, least):
    pair = heart("heart2d")
    plain = regtool.register(**pair, method="greedy", threads=1)
    other = regtool.register(**pair, method="greedy", threads=1, settings=settings)
    assert gain(other.record) > least
    assert not np.allclose(plain.field, other.field)


def slab(volume: Volume, count: int) -> Volume:
    """The first slices of a volume."""
    grid = volume.grid
    thinner = type(grid)((*grid.size[:2], count), grid.spacing, grid.direction, grid.origin)
    return Volume(volume.array[:count], thinner)


def test_thin_stacks_use_fewer_levels_and_say_so(caplog):
    pair = {name: slab(volume, 6) for name, volume in heart("heart3d").items()}
    with caplog.at_level(logging.WARNING, "regtool"):
        record = regtool.register(**pair, method="greedy", threads=1).record
    assert "6 voxels along the shortest axis allow 1 of 3 levels" in caplog.text
    told = record["settings"]
    assert (told["iterations"], told["radius"]) == ([10], [2, 2, 2])
    assert record["similarity"]["local_ncc"]["after"] > record["similarity"]["local_ncc"]["before"]
    with pytest.raises(GeometryError, match="--slices z"):
        regtool.register(slab(pair["fixed"], 3), slab(pair["moving"], 3), "greedy", settings=BRIEF)


@pytest.mark.parametrize("count", [4, 5, 6, 7, 8, 12, 13, 16])
def test_the_levels_left_are_all_that_greedy_can_do(count):
    levels = possible_levels((40, count, 44), 3)
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((count, 40, 44)))

    def run(n: int) -> None:
        greedy = picsl_greedy.Greedy3D()
        words = f"-i a a -o w -m SSD -n {'x'.join('1' * n)} -threads 1 -V 0"
        greedy.execute(words, a=image, w=None)

    run(levels)
    if levels < 3:
        with pytest.raises(RuntimeError, match="four pixels"):
            run(levels + 1)


def test_slices_and_a_single_slice_agree():
    volumes = {name: slab(volume, 3) for name, volume in heart("heart3d").items()}
    fixed, moving = volumes["fixed"], volumes["moving"]
    stack = regtool.register(fixed, moving, "greedy", slices="z", settings=BRIEF, threads=1)
    single = regtool.register(slab(fixed, 1), slab(moving, 1), "greedy", settings=BRIEF, threads=1)
    assert np.abs(stack.field[0]).max() > 0.5
    across = stack.field @ fixed.grid.direction_matrix[:, 2]
    assert np.abs(across).max() < 1e-4
    # Each slice is scaled with its volume, so its values differ a little from those of one slice.
    body = slab(fixed, 1).array[0] > 0.2 * fixed.array.max()
    assert apart(stack.field[0], single.field[0], body) < 0.5


def test_the_mask_decides_what_counts():
    pair = heart("heart2d")
    grid, voxels = pair["fixed"].grid, pair["fixed_labels"].array > 0
    corner = np.zeros_like(voxels, dtype=np.uint8)
    corner[: grid.shape[0] // 4, : grid.shape[1] // 4] = 1

    def field(**more):
        return regtool.register(
            pair["fixed"], pair["moving"], "greedy", threads=1, settings=BRIEF, **more
        ).field

    whole = size(field(), voxels)
    assert size(field(fixed_mask=Volume(corner, grid)), voxels) < 0.3 * whole
    assert size(field(moving_mask=Volume(corner, grid)), voxels) < 0.8 * whole
    with pytest.raises(GeometryError, match="the mask is empty"):
        field(fixed_mask=Volume(0 * corner, grid))


def test_the_seed_decides_and_threads_do_not():
    pair = heart("heart2d")
    runs = [
        regtool.register(pair["fixed"], pair["moving"], "greedy", settings=BRIEF, **more).field
        for more in ({"threads": 1}, {"threads": 1}, {"threads": 2}, {"threads": 1, "seed": 9})
    ]
    assert np.array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() < 1e-3
    assert not np.array_equal(runs[0], runs[3])


def test_a_radius_of_the_wrong_length_is_refused():
    pair = heart("heart2d")
    with pytest.raises(UsageError, match="radius"):
        regtool.register(pair["fixed"], pair["moving"], "greedy", settings={"radius": (2, 2, 2)})
