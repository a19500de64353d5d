"""Random patches: everything of a pair is cut at the same place."""

from __future__ import annotations

import pytest
import torch

from regtool.data.patches import random_patch
from regtool.plugins.exchange import Pair, Sample
from regtool.spatial.warp import identity

SHAPE = (6, 9, 12)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def whole_pair(batch: int = 2) -> Pair:
    """Images whose values are their places, with everything that a pair can have."""
    count = torch.arange(6 * 9 * 12).reshape(SHAPE)

    def sample(offset: int) -> Sample:
        labels = (count + offset).expand(batch, 1, *SHAPE).clone()
        image = labels.float() / 2000
        points = torch.rand(batch, 5, 3, generator=generator(offset)) * 5
        return Sample(
            image, (1.0, 2.0, 3.0), (labels % 2).float(), labels, points, original=image + 0.25
        )

    field = identity(SHAPE)[None].repeat(batch, 1, 1, 1, 1)
    return Pair(sample(0), sample(1), field)


@pytest.mark.parametrize("size", [(4, 4, 4), (6, 5, 12), (99, 4, 6)])
def test_all_tensors_and_points_are_cut_at_one_place(size):
    pair = whole_pair()
    edges = tuple(min(a, b) for a, b in zip(size, SHAPE, strict=True))
    for seed in range(5):
        part = random_patch(pair, size, generator(seed))
        assert part.field is not None
        assert part.field.shape == (2, 3, *edges)
        corner = part.field[:, :, 0, 0, 0]  # the field says where it was
        for b, (z, y, x) in enumerate(corner.long().tolist()):
            box = (slice(z, z + edges[0]), slice(y, y + edges[1]), slice(x, x + edges[2]))
            for new, old in ((part.fixed, pair.fixed), (part.moving, pair.moving)):
                for name in ("image", "mask", "labels", "original"):
                    assert torch.equal(getattr(new, name)[b, 0], getattr(old, name)[b, 0][box])
                torch.testing.assert_close(new.points[b] + corner[b], old.points[b])
                assert new.spacing == old.spacing


def test_every_place_is_drawn_and_elements_differ():
    seen, apart = set(), 0
    for seed in range(60):
        field = random_patch(whole_pair(), (6, 9, 10), generator(seed)).field
        assert field is not None
        first, second = field[:, 2, 0, 0, 0].tolist()
        seen |= {first, second}
        apart += first != second
    assert seen == {0.0, 1.0, 2.0}
    assert apart > 10


def test_the_same_generator_gives_the_same_patch_and_whole_images_stay():
    pair = whole_pair()
    again = [random_patch(pair, (3, 3, 3), generator(4)).fixed.image for _ in range(2)]
    assert torch.equal(*again)
    assert random_patch(pair, SHAPE, generator()) is pair
    with pytest.raises(ValueError, match="a patch of"):
        random_patch(pair, (3, 3), generator())


def test_blank_places_are_avoided():
    """Only a quarter of either image has anything in it."""
    image = torch.zeros(1, 1, 32, 32)
    image[..., :16, :16] = torch.rand(1, 1, 16, 16, generator=generator())
    pair = Pair(Sample(image, (1.0, 1.0)), Sample(image, (1.0, 1.0)))
    blank = [
        float(random_patch(pair, (8, 8), generator(seed)).fixed.image.max()) == 0
        for seed in range(40)
    ]
    assert sum(blank) <= 6  # with a single try about half of them would be
