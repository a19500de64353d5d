"""Elastic augmentation: image, labels, points and field stay together, and nothing folds."""

from __future__ import annotations

import pytest
import torch
from test_augment import SHAPES, brightest, generator, pair

from regtool.data.augment import Augment, augment
from regtool.data.augment_elastic import stretched
from regtool.plugins.exchange import Pair
from regtool.spatial.jacobian import jacobian_determinant
from regtool.spatial.warp import sample, warp


def smooth(shape: tuple[int, ...], seed: int, size: float = 1.5) -> torch.Tensor:
    """A field (1, ndim, *S), voxels."""
    coarse = torch.randn(1, len(shape), *(3,) * len(shape), generator=generator(seed))
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return size * torch.nn.functional.interpolate(coarse, shape, mode=mode, align_corners=True)


@pytest.mark.parametrize("shape", [(40, 48), (24, 28, 32)])
def test_the_field_leads_to_the_same_place(shape) -> None:
    """fixed(x) = moving(x + u) before; so it is after, with the new fixed image and field."""
    given = pair(shape, batch=1)
    u = smooth(shape, 1)
    given = Pair(given.fixed, given.moving, u)
    given.fixed.image = warp(given.moving.image, u)
    after = stretched(given, 6.0, 1.0, generator(3))
    assert after.moving is given.moving
    assert (after.fixed.image - given.fixed.image).abs().max() > 0.05
    apart = (warp(given.moving.image, after.field) - after.fixed.image).abs().max()
    assert apart < 0.05 < (warp(given.moving.image, u) - after.fixed.image).abs().max()


@pytest.mark.parametrize("shape", SHAPES)
def test_points_and_labels_go_along(shape) -> None:
    given = pair(shape)
    after = stretched(given, 3.0, 1.0, generator(3))
    apart = (brightest(after.fixed.image) - after.fixed.points[:, 0]).norm(dim=1)
    before = (brightest(given.fixed.image) - given.fixed.points[:, 0]).norm(dim=1)
    assert (apart < before + 0.5).all()
    bright = after.fixed.image > 0.6
    assert (after.fixed.labels[bright] == 3).float().mean() > 0.95
    assert after.fixed.labels.dtype == given.fixed.labels.dtype


def test_points_are_the_inverse() -> None:
    """y + w(y) = p, with w read off by the field of a pair whose own field is zero."""
    given = pair((24, 28, 32), batch=2)
    given = Pair(given.fixed, given.moving, torch.zeros(2, 3, 24, 28, 32))
    after = stretched(given, 8.0, 1.0, generator(5))
    y = after.fixed.points.transpose(1, 2)
    back = (y + sample(after.field, y)).transpose(1, 2)
    torch.testing.assert_close(back, given.fixed.points, atol=1e-3, rtol=0)
    assert (after.fixed.points - given.fixed.points).abs().max() > 0.1


def test_size_smoothness_and_chance() -> None:
    """8 mm at 4 mm voxels on 40 voxels a side: at most 2 voxels, no folds; a quarter stay."""
    shape = (40, 40, 40)
    given = pair(shape, batch=1)
    given.fixed.spacing = given.moving.spacing = (4.0, 4.0, 4.0)
    given = Pair(given.fixed, given.moving, torch.zeros(1, 3, *shape))
    drawn = generator(0)
    fields = [stretched(given, 8.0, 0.75, drawn).field for _ in range(24)]
    moved = [f for f in fields if f.abs().max() > 0]
    assert 12 <= len(moved) < 24
    assert max(float(f.abs().max()) for f in moved) <= 2.0 + 1e-4
    assert min(float(jacobian_determinant(f).min()) for f in moved) > 0.3


def test_augment_elastic_is_off_by_default_and_repeats() -> None:
    given = pair((16, 20))
    settings = Augment(elastic=4.0)
    first, second = (augment(given, settings, generator(7)) for _ in range(2))
    torch.testing.assert_close(first.fixed.image, second.fixed.image, atol=0, rtol=0)
    assert not torch.equal(first.fixed.image, given.fixed.image)
    assert augment(given, Augment(), generator(7)).fixed is given.fixed
