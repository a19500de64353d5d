"""Tiles cover everything and leave no seams."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regtool.api import Pair, Sample
from regtool.prepare.tiles import blended, cut, plan_tiles, tile_weight
from regtool.spatial.warp import identity


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40)), min_size=2, max_size=3),
    st.floats(0, 0.9),
)
def test_every_voxel_is_covered(axes, overlap):
    shape = tuple(max(size, tile) for size, tile in axes)
    tile = tuple(tile for _, tile in axes)
    seen = torch.zeros(shape)
    for part in plan_tiles(shape, tile, overlap):
        assert seen[part].shape == tile
        seen[part] += 1
    assert seen.min() >= 1


def pair_of(shape: tuple[int, ...]) -> Pair:
    image = identity(shape).sum(0)[None, None]
    points = torch.tensor([[[5.0, 6.0]]])
    sample = Sample(image, (1.0,) * len(shape), points=points)
    return Pair(sample, sample)


def test_a_smooth_answer_is_blended_exactly():
    pair = pair_of((50, 70))

    def answer(part: Pair) -> torch.Tensor:
        return part.fixed.image.repeat(1, 2, 1, 1) * 0.1

    out = blended(pair, (32, 32), 0.5, answer)
    assert torch.allclose(out[:, :1], pair.fixed.image * 0.1, atol=1e-4)


def test_a_tile_has_its_part_of_everything():
    pair = pair_of((50, 70))
    pair.fixed.original = pair.fixed.image + 1
    pair.field = identity((50, 70))[None]
    tile = plan_tiles((50, 70), (32, 32), 0.5)[3]
    part = cut(pair, tile)
    assert torch.equal(part.field, pair.field[(..., *tile)])
    assert torch.equal(part.fixed.original, part.fixed.image + 1)


def test_different_answers_leave_no_jump():
    pair, count = pair_of((32, 128)), iter(range(100))

    def answer(part: Pair) -> torch.Tensor:
        return torch.full((1, 2, 32, 32), float(next(count) % 2))

    out = blended(pair, (32, 32), 0.5, answer)
    assert out.diff(dim=3).abs().max() < 0.2


def test_landmarks_move_into_the_tile():
    part = cut(pair_of((40, 40)), (slice(4, 20), slice(5, 21)))
    assert part.fixed.points.tolist() == [[[1.0, 1.0]]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 40), st.floats(0, 0.9))
def test_no_tile_is_computed_twice(size, edge, overlap):
    tiles = plan_tiles((size,), (min(size, edge),), overlap)
    assert len(set(map(str, tiles))) == len(tiles)


def test_tiles_that_share_half_of_their_edge_weigh_the_same_everywhere():
    """A squared sine and its neighbour's squared cosine."""
    weight = tile_weight((16,), torch.device("cpu"))
    shared = weight[8:] + weight[:8]
    torch.testing.assert_close(shared, shared[:1].expand(8), rtol=1e-5, atol=0)
