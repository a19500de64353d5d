"""Augmentation of a pair's field: it still takes the new moving image to the new fixed one."""

from __future__ import annotations

import pytest
import torch
from augment_cases import GEOMETRY
from torch import Tensor
from torch.nn import functional

from regtool.data.augment import Augment, augment
from regtool.plugins.exchange import Pair, Sample
from regtool.spatial.warp import warp

SHAPES = [(28, 28), (12, 28, 28)]
EVERY = Augment(flip=("x", "y", "z"), transpose=0.5, rotation=30, scaling=0.15, translation=2.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(x: Tensor, times: int) -> Tensor:
    pool = functional.avg_pool2d if x.dim() == 4 else functional.avg_pool3d
    for _ in range(times):
        x = pool(x, 5, 1, 2, count_include_pad=False)
    return x


def moved_pair(shape: tuple[int, ...], batch: int = 3) -> Pair:
    """A moving image, a smooth field, and the fixed image that they give; nothing at the rim."""
    random, ndim = generator(4), len(shape)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = torch.stack([1 - a**4 for a in axes]).prod(0)
    moving = smooth(torch.rand(batch, 1, *shape, generator=random), 2) * inside
    field = 12 * smooth(torch.randn(batch, ndim, *shape, generator=random), 2) * inside
    spacing = (5.0, 2.0, 2.0)[-ndim:]
    fixed = warp(moving, field)
    return Pair(Sample(fixed, spacing), Sample(moving, spacing), field)


def error(pair: Pair) -> float:
    """Mean difference of the fixed and the warped moving image away from the border."""
    assert pair.field is not None
    apart = (pair.fixed.image - warp(pair.moving.image, pair.field)).abs()
    inner = tuple(slice(n // 5, -(n // 5)) for n in apart.shape[2:])
    return float(apart[(slice(None), slice(None), *inner)].mean())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [*GEOMETRY.values(), EVERY], ids=[*GEOMETRY, "all"])
def test_the_field_still_registers(shape: tuple[int, ...], settings: Augment) -> None:
    before = moved_pair(shape)
    still = Pair(before.fixed, before.moving, torch.zeros_like(before.field))
    assert error(before) < 1e-6
    exact = not settings.moves
    for seed in range(3):
        after = augment(before, settings, generator(seed))
        unmoved = augment(still, settings, generator(seed))
        assert torch.equal(after.fixed.image, unmoved.fixed.image)  # the field draws nothing
        assert error(after) < (1e-6 if exact else 0.15 * error(unmoved))


def test_a_rotated_field_turns_with_its_vectors() -> None:
    """Half a turn is both flips; a quarter turn of a constant field exchanges its components."""
    before = moved_pair((28, 28), batch=1)
    before.field = torch.tensor([2.0, 1.0]).reshape(1, 2, 1, 1).expand(1, 2, 28, 28).clone()
    flipped = augment(before, Augment(flip=("x", "y"), flip_probability=1.0), generator())
    assert torch.equal(flipped.field, -before.field)
    swapped = augment(before, Augment(transpose=1.0), generator())
    assert torch.equal(swapped.field[0, :, 0, 0], torch.tensor([1.0, 2.0]))


def test_elements_of_a_batch_are_flipped_each_by_itself() -> None:
    before = moved_pair((28, 28), batch=12)
    after = augment(before, Augment(flip=("x",)), generator())
    for old, new, image, was in zip(
        before.field, after.field, after.moving.image, before.moving.image, strict=True
    ):
        if torch.equal(image, was):
            assert torch.equal(old, new)
        else:
            assert torch.equal(new[1], -old[1].flip(-1)) and torch.equal(new[0], old[0].flip(-1))
    assert not torch.equal(after.field, before.field)
