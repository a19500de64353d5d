"""From images to tensors and back: intensities, boxes, frames."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from regtool.errors import GeometryError, InputError
from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.prepare.intensity import normalise
from regtool.prepare.pair import prepare_pair
from regtool.prepare.preparation import (
    BiasField,
    MinMax,
    Percentile,
    Preparation,
    Window,
    ZScore,
)
from regtool.spatial.frames import to_network_displacement, to_world_field
from regtool.spatial.grid import Grid

from .test_gridding import PREPARATION, STACK, oblique, stored


def smooth_image(grid: Grid, seed: int = 0) -> Volume:
    """A sum of Gaussians given in world coordinates, so that any grid can sample it."""
    rng = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), -1)
    world = index @ grid.index_to_world[:-1, :-1].T + np.asarray(grid.origin)
    value = np.zeros(grid.size)
    spread = 0.12 * max(grid.extent)
    for _ in range(6):
        place = grid.centre + rng.uniform(-0.25, 0.25, grid.ndim) * (
            grid.direction_matrix @ np.asarray(grid.extent)
        )
        value += rng.uniform(200, 900) * np.exp(-((world - place) ** 2).sum(-1) / (2 * spread**2))
    return Volume(np.ascontiguousarray(value.T).astype(np.float32), grid)


@pytest.mark.parametrize("slices", [None, 0])
def test_a_constant_world_shift_survives_the_way_back(slices):
    image = smooth_image(STACK)
    preparation = PREPARATION
    if slices is not None:
        preparation = Preparation(orientation="stack", spacing=(1.5, 1.5), size=(128, 128))
    prepared = prepare_pair(image, image, preparation, slices=slices)
    # In the plane of the slices: 3 mm along the network's x axis.
    ndim = 2 if slices is not None else 3
    u = torch.zeros(prepared.pair.fixed.image.shape[0], ndim, *prepared.pair.fixed.image.shape[2:])
    u[:, -1] = 2.0
    field = prepared.world_field(u)
    assert field.shape == (*STACK.shape, 3)
    wanted = 2.0 * 1.5 * prepared.grid.direction_matrix[:, 0]
    middle = tuple(n // 2 for n in STACK.shape)
    assert np.allclose(field[middle], wanted, atol=1e-4)
    back = prepared.network_displacement(field)
    centre = (slice(None), slice(None), *(slice(n // 4, n // 2) for n in u.shape[2:]))
    assert torch.allclose(back[centre], u[centre], atol=1e-3)


def test_field_and_displacement_are_each_others_inverse_on_one_grid():
    generator = torch.Generator().manual_seed(1)
    grid = Grid((9, 8, 7), (1.1, 0.9, 3.0), tuple(oblique(0.5).ravel()), (1.0, 2.0, 3.0))
    u = torch.randn(3, *grid.shape, generator=generator)
    again = to_network_displacement(to_world_field(u, grid, grid), grid, grid)
    assert torch.allclose(u, again, atol=1e-5)


def test_the_field_means_what_itk_takes_it_to_mean():
    """The network's own warp and SimpleITK's resampling through the written field agree."""
    fixed_grid = Grid((60, 50, 12), (1.2, 1.4, 4.0), tuple(oblique(0.2).ravel()), (5.0, -9.0, 2.0))
    fixed = smooth_image(stored(fixed_grid, (1, 2, 0), (-1, 1, -1)), 1)
    moving = smooth_image(Grid((70, 64, 20), (1.3, 1.1, 2.6), tuple(oblique(-0.1).ravel()),
                               (-2.0, -12.0, -4.0)), 1)  # fmt: skip
    preparation = Preparation(
        orientation="LPS", spacing=(4.0, 1.5, 1.5), size=(None,) * 3, multiple=8,
        intensity=(MinMax(),),
    )  # fmt: skip
    initial = np.eye(4)
    initial[:3, 3] = (1.0, -2.0, 0.5)
    prepared = prepare_pair(fixed, moving, preparation, initial=initial)
    shape = prepared.pair.fixed.image.shape[2:]
    u = torch.stack([torch.full(shape, v) for v in (0.5, -1.25, 2.0)])[None]
    field = prepared.world_field(u)
    ours = resample(moving, fixed.grid, [(field, fixed.grid), initial])
    grid = prepared.grid
    # What the network would say: where each fixed voxel reads the moving image.
    world_shift = grid.index_to_world[:3, :3] @ np.array([2.0, -1.25, 0.5])
    shift = np.eye(4)
    shift[:3, 3] = world_shift
    theirs = resample(moving, fixed.grid, [shift, initial])
    assert np.abs(ours - theirs).max() < 1e-3 * np.ptp(moving.array)
    image = sitk.GetImageFromArray(moving.array)
    image.SetSpacing(moving.grid.spacing)
    image.SetDirection(moving.grid.direction)
    image.SetOrigin(moving.grid.origin)
    reference = sitk.Image(fixed.grid.size, sitk.sitkFloat32)
    reference.SetSpacing(fixed.grid.spacing)
    reference.SetDirection(fixed.grid.direction)
    reference.SetOrigin(fixed.grid.origin)
    vectors = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    vectors.CopyInformation(reference)
    affine = sitk.AffineTransform(3)
    affine.SetTranslation([1.0, -2.0, 0.5])
    chain = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(vectors)])
    itk = sitk.GetArrayFromImage(sitk.Resample(image, reference, chain, sitk.sitkLinear, 0.0))
    assert np.abs(ours - itk).max() < 1e-3 * np.ptp(moving.array)


def test_outside_a_box_the_field_fades_without_a_jump():
    grid = Grid((256, 256), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    image = smooth_image(grid)
    preparation = Preparation(spacing=(1.0, 1.0), size=(96, 96), taper=16)
    prepared = prepare_pair(image, image, preparation)
    field = prepared.world_field(torch.full((1, 2, 96, 96), 4.0))
    assert np.allclose(field[128, 128], (4.0, 4.0))
    assert np.abs(field[0, 0]).max() == 0
    steps = np.abs(np.diff(field, axis=0)).max(), np.abs(np.diff(field, axis=1)).max()
    assert max(steps) < 4.0 * 2 / 16


def test_motion_places_the_box():
    grid = Grid((200, 160), (1.5, 1.5), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    fixed = np.full((160, 200), 100.0, np.float32)
    moving = fixed.copy()
    moving[100:120, 130:150] = 400
    preparation = Preparation(spacing=(1.5, 1.5), size=(64, 64), anchor="motion")
    prepared = prepare_pair(Volume(fixed, grid), Volume(moving, grid), preparation)
    middle = (grid.world_to_index @ np.append(prepared.grid.centre, 1.0))[:2]
    assert np.allclose(middle, (139.5, 109.5), atol=2)


def test_the_region_of_interest_goes_first_and_must_not_be_empty():
    image = smooth_image(STACK)
    roi = np.zeros(STACK.shape, np.uint8)
    roi[4:6, 60:70, 120:130] = 1
    prepared = prepare_pair(image, image, PREPARATION, roi=Volume(roi, STACK))
    middle = (STACK.world_to_index @ np.append(prepared.grid.centre, 1.0))[:2]
    assert np.allclose(middle, (124.5, 70), atol=8)
    with pytest.raises(InputError, match="empty"):
        prepare_pair(image, image, PREPARATION, roi=Volume(roi * 0, STACK))


def test_labels_masks_and_points_follow_their_image():
    image = smooth_image(STACK)
    labels = (image.array > np.percentile(image.array, 80)).astype(np.uint8) * 3
    points = STACK.centre[None] + np.array([[0.0, 0, 0], [6.0, 4.0, 8.0]])
    volume = Volume(labels, STACK)
    initial = np.eye(4)
    initial[:3, 3] = (3.0, 0.0, 0.0)
    prepared = prepare_pair(
        image, image, PREPARATION, initial=initial, fixed_labels=volume, moving_labels=volume,
        fixed_mask=volume, fixed_points=points, moving_points=points,
    )  # fmt: skip
    fixed, moving = prepared.pair.fixed, prepared.pair.moving
    assert set(fixed.labels.unique().tolist()) == {0, 3}
    assert torch.equal(fixed.mask > 0, fixed.labels > 0)
    world = prepared.grid.index_to_world @ np.append(fixed.points[0, 1].numpy()[::-1], 1.0)
    assert np.allclose(world[:3], points[1], atol=1e-3)
    shifted = prepared.grid.index_to_world @ np.append(moving.points[0, 1].numpy()[::-1], 1.0)
    assert np.allclose(shifted[:3], points[1] - (3.0, 0, 0), atol=1e-3)


def test_dimensions_must_fit():
    flat = Volume(np.zeros((32, 32), np.float32), Grid((32, 32), (1.0, 1.0), (1, 0, 0, 1), (0, 0)))
    with pytest.raises(GeometryError, match="dimension"):
        prepare_pair(flat, smooth_image(STACK), PREPARATION)
    with pytest.raises(GeometryError, match="weights"):
        prepare_pair(flat, flat, PREPARATION)


STEPS = [
    Percentile(), MinMax(), Window(low=0, high=500), ZScore(), Percentile(of="mask"),
    ZScore(of="mask"), ZScore(of="pair"), Percentile(of="pair"),
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda s: f"{s.kind}-{getattr(s, 'of', 'image')}")
def test_intensities_end_in_the_unit_interval(step):
    images = [smooth_image(STACK, s) for s in (0, 1)]
    constant = images[0].with_array(np.full_like(images[0].array, 7))
    masks = [images[0].array > 300, None]
    for pair in (images, [constant, constant]):
        for volume in normalise(pair, [step], masks):
            assert volume.array.dtype == np.float32
            assert np.isfinite(volume.array).all()
            assert volume.array.min() >= 0
            assert volume.array.max() <= 1


def test_percentiles_and_windows_by_hand():
    grid = Grid((10, 10), (1.0, 1.0), (1, 0, 0, 1), (0, 0))
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    volume = Volume(values, grid)
    (scaled,) = normalise([volume], [Percentile(low=10, high=90)], [None])
    assert np.allclose(scaled.array, np.clip((values - 9.9) / (89.1 - 9.9), 0, 1), atol=1e-5)
    (windowed,) = normalise([volume], [Window(low=20, high=60)], [None])
    assert np.allclose(windowed.array, np.clip((values - 20) / 40, 0, 1))


def test_bias_correction_flattens_a_shaded_block():
    grid = Grid((40, 40, 12), (2.0, 2.0, 4.0), tuple(np.eye(3).ravel()), (0.0, 0.0, 0.0))
    _z, y, x = np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij")
    inside = ((x - 20) ** 2 + (y - 20) ** 2 < 15**2).astype(np.float32)
    shade = 1 + 0.8 * x / 40
    volume = Volume((inside * 500 * shade + 10).astype(np.float32), grid)
    (plain,) = normalise([volume], [MinMax()], [None])
    (flat,) = normalise([volume], [BiasField(shrink=2), MinMax()], [None])
    core = inside > 0
    variation = [np.std(v.array[core]) / np.mean(v.array[core]) for v in (plain, flat)]
    assert variation[1] < 0.5 * variation[0]


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_n4_takes_volumes_of_one_slice(flat):
    """It corrects the plane as it corrects the same picture in 2-D."""
    y, x = np.mgrid[:48, :40].astype(float)
    picture = ((x - 20) ** 2 + (y - 24) ** 2 < 300) * 500 * (1 + 0.8 * x / 40) + 10
    plane = Grid((40, 48), (1.5, 1.2), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    (wanted,) = normalise([Volume(picture.astype(np.float32), plane)], [BiasField(), MinMax()],
                          [None])  # fmt: skip
    array = np.expand_dims(picture.astype(np.float32), 2 - flat)
    spacing = [1.5, 1.2]
    spacing.insert(flat, 8.0)
    grid = Grid(array.shape[::-1], tuple(spacing), tuple(oblique(0.3).ravel()), (1.0, 2.0, 3.0))
    (found,) = normalise([Volume(array, grid)], [BiasField(), MinMax()], [None])
    assert found.array.shape == array.shape
    assert np.allclose(found.array.squeeze(), wanted.array, rtol=0, atol=1e-5)


@pytest.mark.parametrize("slices", [2, 3])
def test_n4_takes_a_few_slices(slices):
    grid = Grid((40, 48, slices), (1.5, 1.2, 8.0), tuple(np.eye(3).ravel()), (0.0,) * 3)
    array = np.random.default_rng(0).uniform(1, 2, grid.shape).astype(np.float32)
    (found,) = normalise([Volume(array, grid)], [BiasField(), MinMax()], [None])
    assert np.isfinite(found.array).all()
