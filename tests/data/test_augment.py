"""Augmentation: common geometry, separate contrast, labels and points that stay with the image."""

from __future__ import annotations

import math

import pytest
import torch
from augment_cases import GEOMETRY
from pydantic import ValidationError

from regtool.data.augment import Augment, augment
from regtool.plugins.exchange import Pair, Sample

SHAPES = [(16, 20), (6, 16, 20), (8, 12, 12)]
ALL = Augment(
    flip=("x", "y"), transpose=0.5, rotation=20, scaling=0.1, translation=4.0, gamma=0.3,
    contrast=0.2, brightness=0.1, noise=0.05,
)  # fmt: skip
EVERY = Augment(flip=("x",), transpose=0.7, rotation=30, scaling=0.1, translation=2.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(shape: tuple[int, ...], place: tuple[float, ...], width: float = 2.0) -> torch.Tensor:
    index = torch.meshgrid(*[torch.arange(n).float() for n in shape], indexing="ij")
    square = sum((i - p) ** 2 for i, p in zip(index, place, strict=True))
    return torch.exp(-torch.as_tensor(square) / (2 * width**2))


def sample(shape: tuple[int, ...], places: list[tuple[float, ...]]) -> Sample:
    image = torch.stack([blob(shape, p) for p in places])[:, None]
    spacing = (4.0, 1.5, 1.25)[-len(shape) :]
    return Sample(
        image, spacing, mask=(image > 0.1).float(), labels=(image > 0.5).long() * 3,
        points=torch.tensor(places)[:, None],
    )  # fmt: skip


def pair(shape: tuple[int, ...], batch: int = 4) -> Pair:
    random = torch.rand(2, batch, len(shape), generator=generator(9))
    sizes = torch.tensor(shape) - 1
    places = (random * 0.3 + 0.35) * sizes
    return Pair(*(sample(shape, [tuple(p.tolist()) for p in half]) for half in places))


def brightest(image: torch.Tensor) -> torch.Tensor:
    """Centre of mass in voxels, (B, ndim), tensor axis order."""
    shape = image.shape[2:]
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij"))
    weight = (image[:, :1] ** 2).flatten(2)
    return (weight * index.flatten(1)).sum(2) / weight.sum(2)


def test_defaults_change_nothing() -> None:
    before = pair((16, 20))
    after = augment(before, Augment(), generator())
    assert after.fixed is before.fixed
    assert after.moving is before.moving


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_keeps_types_shapes_and_label_set(shape: tuple[int, ...]) -> None:
    before = pair(shape)
    for seed in range(5):
        after = augment(before, ALL, generator(seed))
        for old, new in ((before.fixed, after.fixed), (before.moving, after.moving)):
            assert new.labels is not None and new.mask is not None and old.labels is not None
            assert new.image.shape == old.image.shape
            assert new.image.dtype == torch.float32
            assert new.labels.dtype == torch.int64
            assert new.labels.shape == old.labels.shape
            assert set(new.labels.unique().tolist()) <= {0, 3}
            assert set(new.mask.unique().tolist()) <= {0.0, 1.0}
            assert 0 <= float(new.image.min()) <= float(new.image.max()) <= 1
        assert after.fixed.spacing == after.moving.spacing


def test_same_generator_same_result_and_input_untouched() -> None:
    before = pair((16, 20))
    kept = before.fixed.image.clone()
    one, two = (augment(before, ALL, generator(3)) for _ in range(2))
    assert torch.equal(one.fixed.image, two.fixed.image)
    assert one.moving.labels is not None and two.moving.labels is not None
    assert torch.equal(one.moving.labels, two.moving.labels)
    assert not torch.equal(one.fixed.image, augment(before, ALL, generator(4)).fixed.image)
    assert torch.equal(before.fixed.image, kept)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [*GEOMETRY.values(), EVERY], ids=[*GEOMETRY, "all"])
def test_points_and_labels_stay_with_the_image(shape: tuple[int, ...], settings: Augment) -> None:
    before = pair(shape)
    for seed in range(4):
        after = augment(before, settings, generator(seed))
        for new in (after.fixed, after.moving):
            assert new.points is not None and new.labels is not None
            where = brightest(new.image)
            assert (where - new.points[:, 0]).abs().max() < 0.35
            assert (where - brightest(new.labels.float())).abs().max() < 0.8


def test_flips_differ_within_a_batch_but_not_within_a_pair() -> None:
    before = pair((16, 20), batch=12)
    both = Pair(before.fixed, before.fixed)
    after = augment(both, Augment(flip=("x",)), generator())
    assert torch.equal(after.fixed.image, after.moving.image)
    flipped = [
        torch.equal(a, b.flip(-1)) for a, b in zip(after.fixed.image, both.fixed.image, strict=True)
    ]
    kept = [torch.equal(a, b) for a, b in zip(after.fixed.image, both.fixed.image, strict=True)]
    assert 2 < sum(flipped) < 10
    assert all(a != b for a, b in zip(flipped, kept, strict=True))


def test_common_motion_moves_both_images_alike() -> None:
    before = pair((6, 16, 20))
    both = Pair(before.fixed, before.fixed)
    after = augment(both, Augment(rotation=30, translation=5, scaling=0.2), generator(1))
    assert torch.equal(after.fixed.image, after.moving.image)
    assert not torch.equal(after.fixed.image, before.fixed.image)


def test_transposition_swaps_spacing_of_square_images_only() -> None:
    square, oblong = pair((8, 12, 12)), pair((6, 16, 20))
    after = augment(square, Augment(transpose=1.0), generator())
    assert square.fixed.spacing == (4.0, 1.5, 1.25)
    assert after.fixed.spacing == (4.0, 1.25, 1.5)
    assert torch.equal(after.moving.image, square.moving.image.transpose(-1, -2))
    assert augment(oblong, Augment(transpose=1.0), generator()).fixed is oblong.fixed


def test_rotation_is_rigid_in_millimetres() -> None:
    shape, spacing = (40, 40), torch.tensor([2.0, 1.0])
    places = [(14.0, 12.0), (24.0, 28.0)]
    image = sum(blob(shape, p, 0.8) for p in places)
    one = Sample(torch.as_tensor(image)[None, None], (2.0, 1.0), points=torch.tensor([places]))
    moved = augment(Pair(one, one), Augment(rotation=45), generator(2)).fixed
    assert one.points is not None and moved.points is not None
    before, after = ((p[0, 0] - p[0, 1]) * spacing for p in (one.points, moved.points))
    assert float(after.norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    turn = math.atan2(after[0], after[1]) - math.atan2(before[0], before[1])
    assert 0.01 < abs(turn) <= math.radians(45) + 1e-6


def test_affine_probability_leaves_elements_alone() -> None:
    before = pair((16, 20), batch=16)
    settings = Augment(translation=4.0, affine=0.5)
    after = augment(before, settings, generator())
    still = (after.fixed.image - before.fixed.image).abs().amax((1, 2, 3)) < 1e-4
    assert 3 < int(still.sum()) < 13


def test_intensity_changes_are_separate_and_leave_labels() -> None:
    before = pair((16, 20))
    both = Pair(before.fixed, before.fixed)
    settings = Augment(gamma=0.4, contrast=0.3, brightness=0.1, noise=0.05)
    after = augment(both, settings, generator())
    assert not torch.equal(after.fixed.image, after.moving.image)
    assert after.fixed.labels is before.fixed.labels
    assert after.fixed.points is before.fixed.points


def test_one_slice_and_missing_parts() -> None:
    bare = Sample(torch.rand(2, 1, 1, 16, 16), (1.0, 1.0, 1.0))
    labelled = Sample(bare.image, bare.spacing, labels=torch.ones(2, 1, 1, 16, 16).long())
    after = augment(Pair(bare, labelled), ALL, generator())
    assert after.fixed.image.shape == bare.image.shape
    assert after.fixed.image.isfinite().all()
    assert after.fixed.mask is None and after.fixed.labels is None
    assert after.moving.labels is not None
    assert after.moving.labels.float().mean() > 0.3


def test_settings_refuse_typing_errors() -> None:
    assert Augment.model_validate({"flip": ["x"], "gamma": 0.2}).flip == ("x",)
    for wrong in ({"flips": ["x"]}, {"flip": ["w"]}, {"transpose": 2}, {"noise": -1}):
        with pytest.raises(ValidationError):
            Augment.model_validate(wrong)
