"""AD-RegNet: cross-attention by hand, matching, regions."""

from __future__ import annotations

import math

import pytest
import torch
from ad_regnet_cases import aided, images, tiny
from torch import Tensor
from torch.nn import functional

from regtool.api import UsageError
from regtool_ad_regnet import slabs
from regtool_ad_regnet.attention import CrossAttention
from regtool_ad_regnet.matching import Matching
from regtool_ad_regnet.network import ADRegNet
from regtool_ad_regnet.regional import RegionalAttention


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Softmax attention of tokens (N, C) written out."""
    out = []
    for q, k, v in zip(*(x.chunk(heads, 1) for x in (queries, keys, values)), strict=True):
        out.append((q @ k.T / math.sqrt(q.shape[1])).softmax(1) @ v)
    return torch.cat(out, 1)


def test_attention_by_hand():
    """A = alpha A_MF + (1 - alpha) A_FM, two heads, all places."""
    torch.manual_seed(0)
    module = CrossAttention(32, cap=1000, alpha=0.3)
    assert module.heads == 2 and module.share().item() == pytest.approx(0.3)
    fixed, moving = torch.randn(2, 1, 32, 3, 4, 5)
    f, m = (x[0].flatten(1).T for x in (fixed, moving))
    with torch.no_grad():
        (qf, kf, vf), (qm, km, vm) = module.fixed(f).chunk(3, 1), module.moving(m).chunk(3, 1)
        expected = 0.3 * attend(qm, kf, vf, 2) + 0.7 * attend(qf, km, vm, 2)
        found = module(fixed, moving)[0].flatten(1).T
    assert torch.allclose(found, expected, atol=1e-5)


def test_offsets_are_the_mean_way_to_what_is_attended():
    torch.manual_seed(0)
    module = CrossAttention(16, cap=1000, offsets=True)
    plain = CrossAttention(16, cap=1000)
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if k != "place.weight"})
    fixed, moving = torch.randn(2, 1, 16, 2, 4, 5)
    axes = [(torch.arange(n) - (n - 1) / 2) * 2 / n for n in (2, 4, 5)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    f, m = (x[0].flatten(1).T for x in (fixed, moving))
    with torch.no_grad():
        q, k = module.fixed(f).chunk(3, 1)[0], module.moving(m).chunk(3, 1)[1]
        way = (q @ k.T / 4).softmax(1) @ places - places
        expected = plain(fixed, moving)[0].flatten(1).T + way @ module.place.weight.T
        found = module(fixed, moving)[0].flatten(1).T
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("offsets", [False, True])
def test_a_window_that_covers_all_is_dense(offsets):
    torch.manual_seed(0)
    dense = CrossAttention(16, window=6, cap=1000, offsets=offsets)
    windowed = CrossAttention(16, window=6, cap=10, offsets=offsets)
    windowed.load_state_dict(dense.state_dict())
    fixed, moving = torch.randn(2, 1, 16, 4, 6, 5)
    assert dense.looks((4, 6, 5)).dense and not windowed.looks((4, 6, 5)).dense
    with torch.no_grad():
        assert torch.allclose(dense(fixed, moving), windowed(fixed, moving), atol=1e-6)


def test_windows_lie_in_the_same_place_and_their_padding_is_not_seen():
    torch.manual_seed(0)
    windowed = CrossAttention(16, window=4, cap=10, offsets=True)
    dense = CrossAttention(16, window=4, cap=1000, offsets=False)
    dense.load_state_dict({k: v for k, v in windowed.state_dict().items() if "place" not in k})
    with torch.no_grad():
        windowed.place.weight.zero_()
    fixed, moving = torch.randn(2, 2, 16, 4, 6, 5)
    with torch.no_grad():
        found = windowed(fixed, moving)
        for window in [(slice(0, 4), slice(0, 4)), (slice(4, 6), slice(4, 5))]:
            part = (slice(None), slice(None), slice(None), *window)
            assert torch.allclose(found[part], dense(fixed[part], moving[part]), atol=1e-5)


@pytest.mark.parametrize("side", [2, 3])
def test_bfloat16_attends_as_float32_does(side):
    """Plain products take the place of the fused kernel there; windows of 3 are not full."""
    torch.manual_seed(0)
    module = CrossAttention(16, window=side, cap=10, offsets=True)
    fixed, moving = torch.randn(2, 1, 16, 4, 4, 4)
    with torch.no_grad():
        expected = module(fixed, moving)
        with torch.autocast("cpu", torch.bfloat16):
            found = module(fixed, moving)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_entropy_of_rows_by_hand():
    torch.manual_seed(0)
    module = CrossAttention(16, cap=1000)
    fixed, moving = 4 * torch.randn(2, 1, 16, 2, 3, 4)
    f, m = (x[0].flatten(1).T for x in (fixed, moving))
    with torch.no_grad():
        q, k = module.fixed(f).chunk(3, 1)[0], module.moving(m).chunk(3, 1)[1]
        p = (q @ k.T / 4).softmax(1)
        expected = -(p * p.log()).sum(1) / math.log(24)
        assert torch.allclose(module.rows(fixed, moving).flatten(), expected, atol=1e-5)
        module.fixed.weight[:16].zero_()
        module.fixed.bias[:16].zero_()
        assert torch.allclose(module.rows(fixed, moving), torch.ones(()), atol=1e-5)
        module.window, module.cap = 4, 1
        wide = torch.randn(2, 1, 16, 5, 4, 6)
        assert torch.allclose(module.rows(*wide), torch.ones(()), atol=1e-5)


def test_the_network_knows_moving_from_fixed():
    """Six projections, three a role: exchanged images are answered otherwise, exchanged roles not.

    If both roles had the same projections, alpha = 0.5 would make the network blind.
    """
    network = tiny(widths=(4, 8), gate=4)
    fixed, moving = images()
    with torch.no_grad():
        there = network(fixed, moving).displacement
        back = network(moving, fixed).displacement
        for level in network.levels:
            a = level.attention
            a.fixed, a.moving = a.moving, a.fixed
            a.blend.neg_()
        exchanged = network(moving, fixed).displacement
        for level in network.levels:
            level.attention.fixed.load_state_dict(level.attention.moving.state_dict())
            level.attention.blend.zero_()
        blind = network(moving, fixed).displacement, network(fixed, moving).displacement
    assert (there - back).abs().max() > 1e-2 * there.abs().max()
    assert torch.allclose(there, exchanged, atol=1e-5)
    assert torch.allclose(*blind, atol=1e-5)


# -- regions -----------------------------------------------------------------------------------


def test_regions_by_hand():
    torch.manual_seed(0)
    module = RegionalAttention(8, 2)
    x = torch.randn(1, 8, 4, 2, 5)
    with torch.no_grad():
        module.score.weight.mul_(5)
        tokens = torch.stack([
            x[0, :, z : z + 2, :, i : i + 2].mean((1, 2, 3)) for z in (0, 2) for i in (0, 2, 4)
        ])  # fmt: skip
        q, k, v = module.attend(tokens).chunk(3, 1)
        weight = module.score((q @ k.T / math.sqrt(8)).softmax(1) @ v)[:, 0].softmax(0)
        found = module(x.clone())
        assert torch.allclose(module.weights(x).flatten(), 6 * weight, atol=1e-5)
    sharp = (6 * weight).reshape(2, 3).repeat_interleave(2, 0).repeat_interleave(2, 1)[:, :5]
    assert torch.allclose(found.maps, x * (1 + sharp[None, None, :, None]), atol=1e-5)
    assert found.importance.amax() == 1 and found.importance.amin() > 0
    assert found.importance.shape == (1, 1, 4, 2, 5)


def test_equal_regions_weigh_one():
    """Softmax over N patches times N: what does not prefer changes nothing but the residual."""
    module = RegionalAttention(8, 2)
    with torch.no_grad():
        module.score.weight.zero_()
        x = torch.randn(1, 8, 4, 4, 4)
        found = module(x.clone())
    assert torch.allclose(found.maps, 2 * x) and torch.allclose(found.importance, torch.ones(()))


@pytest.mark.parametrize(("patch", "stem", "sides"), [
    (24, 1, [24, 12, 6, 3, 2]), (16, 2, [8, 4, 2, 2, 2]),
])  # fmt: skip
def test_patches_are_in_voxels_of_the_image(patch, stem, sides):
    network = ADRegNet(widths=(8,) * 5, patch=patch, stem=stem)
    assert [level.regional.patch for level in network.levels] == sides


# -- matching, not in the paper ----------------------------------------------------------------


def test_matching_finds_a_shift_of_one_voxel_without_training():
    """Features that differ everywhere, moved by one voxel: the sharpest match is there."""
    torch.manual_seed(0)
    m = torch.randn(1, 16, 6, 7, 8)
    f = torch.roll(m, (1, 0, -1), (2, 3, 4))  # f(p) = m(p + (-1, 0, 1))
    matching = Matching(1)
    with torch.no_grad():
        matching.sharpness.fill_(200.0)
        values, way = matching(f, m)
    inner = (slice(None), slice(None), *(slice(1, -1),) * 3)
    wanted = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1, 1).expand_as(way[inner])
    torch.testing.assert_close(way[inner], wanted, atol=1e-2, rtol=0)
    assert values.shape[1] == matching.channels == 27
    best = values[inner].argmax(1)
    assert (best == 9 * 0 + 3 * 1 + 2).all()


def test_matching_by_slabs_is_the_same(monkeypatch):
    matching = Matching(1)
    f, m = torch.randn(2, 1, 4, 9, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = matching(f, m)
        monkeypatch.setattr(slabs, "LARGE", 10)
        monkeypatch.setattr(slabs, "SLAB", 6 * 30 * 13)
        parts = matching(f, m)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)


def test_matching_is_added_to_the_heads_answer():
    """update = head(maps) + share * the mean match of 27 voxels; and it needs ``compare``."""
    level = aided(correlate=1, regional=False).level(0)
    f, m = torch.randn(2, 1, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = level._seen(f, m)[0]
        head = functional.conv3d(maps, level.head.weight, level.head.bias, padding=1)
        update = level(f, m).update - head
        _, way = level.matching(f, m)
    inner = (slice(None), slice(None), *(slice(1, -1),) * 3)
    torch.testing.assert_close(update[inner], 0.5 * functional.avg_pool3d(way, 3, 1))
    assert update.abs().max() > 0.05
    with pytest.raises(UsageError, match="compare"):
        tiny(correlate=1)
