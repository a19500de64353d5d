"""Windows and Swin blocks in 2-D and 3-D."""

from __future__ import annotations

import pytest
import torch

from regtool.nn.swin import PatchMerging, SwinBlock, SwinEncoder, WindowAttention
from regtool.nn.windows import merge, pad_to_windows, partition, relative_index, shift_mask

SHAPES = [((8, 12), (4, 4)), ((4, 6, 8), (2, 3, 4))]


@pytest.mark.parametrize(("shape", "window"), SHAPES)
def test_windows_come_together_again(shape, window):
    x = torch.rand(2, *shape, 3)
    windows = partition(x, window)
    corner = x[(0, *(slice(0, w) for w in window))].reshape(-1, 3)
    assert torch.equal(windows[0, 0], corner)
    assert torch.equal(merge(windows, window, shape), x)


def test_padding_is_at_the_far_ends():
    x = pad_to_windows(torch.ones(1, 4, 6, 2), (7, 7))
    assert x.shape == (1, 7, 7, 2)
    assert x[:, :4, :6].min() == 1
    assert x.sum() == 48


def test_relative_positions_are_told_apart():
    index = relative_index((3, 4))
    assert index.unique().numel() == 5 * 7
    assert (index.diagonal() == index[0, 0]).all()
    assert index.min() == 0
    assert index.max() == 34


def test_the_mask_separates_what_only_the_roll_made_neighbours():
    mask = shift_mask((8,), (4,), (2,), torch.device("cpu"))
    assert not mask[0].any()
    ends = torch.tensor([0, 0, 1, 1])
    assert torch.equal(mask[1], ends[:, None] != ends[None, :])


@pytest.mark.parametrize(("shape", "window"), SHAPES)
@pytest.mark.parametrize("shifted", [False, True])
def test_asking_oneself_is_self_attention(shape, window, shifted):
    block = SwinBlock(8, 2, window, shifted=shifted).eval()
    x = torch.rand(2, *shape, 8)
    assert torch.allclose(block(x), block(x, x), atol=1e-6)
    assert not torch.allclose(block(x), block(x, torch.rand_like(x)), atol=1e-3)


def test_a_window_does_not_see_the_next_but_after_a_shift_it_does():
    def reach(shifted: bool) -> torch.Tensor:
        block = SwinBlock(4, 1, (4, 4), shifted=shifted).eval()
        x = torch.rand(1, 8, 8, 4, requires_grad=True)
        block(x)[0, 3, 3].sum().backward()
        return x.grad[0].abs().sum(-1) > 0

    assert reach(False)[:4, :4].all()
    assert not reach(False)[4:].any()
    assert reach(True)[2:6, 2:6].all()
    assert not reach(True)[6:].any()


def test_attention_equals_the_formula_with_a_bias():
    torch.manual_seed(0)
    attention = WindowAttention(6, 2, (2, 2), qkv_bias=True)
    x, y = torch.rand(2, 1, 3, 4, 6)
    q = attention.qkv(y)[..., :6].reshape(1, 3, 4, 2, 3).transpose(2, 3)
    k, v = (
        attention.qkv(x)[..., s : s + 6].reshape(1, 3, 4, 2, 3).transpose(2, 3) for s in (6, 12)
    )
    bias = attention.bias[attention.index].permute(2, 0, 1)
    mixed = ((q @ k.transpose(-1, -2)) / 3**0.5 + bias).softmax(-1) @ v
    wanted = attention.proj(mixed.transpose(2, 3).reshape(1, 3, 4, 6))
    assert torch.allclose(attention(x, y), wanted, atol=1e-6)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="5 heads"):
        WindowAttention(12, 5, (2, 2))


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_encoder_halves_and_doubles(ndim):
    encoder = SwinEncoder(ndim, 2, 8, (2, 2, 2), (2, 2, 4), (4, 4, 2), drop_path=0.3).eval()
    maps = encoder(torch.rand(1, 2, *(36,) * ndim))
    assert [tuple(m.shape) for m in maps] == [
        (1, *(9,) * ndim, 8), (1, *(5,) * ndim, 16), (1, *(3,) * ndim, 32)
    ]  # fmt: skip
    assert "index" not in "".join(encoder.state_dict())


def test_merging_orders_neighbours_as_published():
    merging = PatchMerging(2, 1)
    merging.norm = torch.nn.Identity()
    merging.reduction = torch.nn.Identity()
    x = torch.arange(4.0).reshape(1, 2, 2, 1)  # rows (0, 1) and (2, 3)
    assert merging(x).flatten().tolist() == [0, 2, 1, 3]


def test_paths_are_dropped_in_training_only_and_keep_their_mean():
    torch.manual_seed(0)
    block = SwinBlock(4, 1, (2, 2), drop_path=0.5)
    x = torch.rand(400, 2, 2, 4)
    with torch.no_grad():
        calm, wild = block.eval()(x), block.train()(x)
    dropped = (wild - x).flatten(1).abs().amax(1) == 0
    assert 0.15 < dropped.float().mean() < 0.35
    assert torch.allclose((wild - x).mean(), (calm - x).mean(), atol=0.02)


def test_a_smaller_window_finds_its_positions_in_a_larger_ones_table():
    """A place and its neighbour have the same row whatever the size of the window."""
    table = (2, 4, 4)
    whole, part = relative_index(table), relative_index((1, 3, 2), table)
    inside = torch.tensor([y * 4 + x for y in range(3) for x in range(2)])
    assert torch.equal(part, whole[inside][:, inside])


def test_merging_may_take_neighbours_twice():
    """Without two of the eight corners their voxels do not matter; by default all do."""
    twice = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    left_out = {(1, 1, 0), (0, 1, 1)}
    for corners, ignored in ((None, set()), (twice, left_out)):
        torch.manual_seed(0)
        merging, x = PatchMerging(3, 4, corners), torch.rand(1, 2, 2, 2, 4)
        before = merging(x)
        for corner in [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]:
            changed = x.clone()
            changed[(0, *corner)] += torch.arange(4.0)
            assert torch.equal(merging(changed), before) == (corner in ignored)
    with pytest.raises(ValueError, match="neighbours"):
        PatchMerging(3, 4, twice[:7])
