"""AD-RegNet: sizes, attention by hand, units across levels, the fusion, switches, slabs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from regtool.api import UsageError
from regtool.spatial.compose import compose
from regtool.spatial.integrate import integrate
from regtool.spatial.warp import warp
from regtool_ad_regnet import slabs
from regtool_ad_regnet.attention import CrossAttention
from regtool_ad_regnet.fusion import enlarged
from regtool_ad_regnet.matching import Matching
from regtool_ad_regnet.model import build
from regtool_ad_regnet.network import ADRegNet
from regtool_ad_regnet.presets import AD_REGNET
from regtool_ad_regnet.regional import RegionalAttention

TINY = {"widths": (4, 8, 8), "gate": 4, "patch": 8, "cap": 64, "window": 2}
AIDED = {
    **TINY, "fusion": "compose", "guided": True, "compare": 4, "offsets": True,
    "soft_regions": True, "integrate": 2,
}  # fmt: skip
SHAPE = (8, 12, 16)


def tiny(**switches) -> ADRegNet:
    torch.manual_seed(0)
    return ADRegNet(**{**TINY, **switches}).eval()


def aided(**switches) -> ADRegNet:
    return tiny(**{**AIDED, **switches})


def images(shape: tuple[int, ...] = SHAPE, batch: int = 1) -> tuple[Tensor, Tensor]:
    drawn = torch.rand(2, batch, 1, *shape, generator=torch.Generator().manual_seed(1))
    fixed, moving = (functional.avg_pool3d(x, 3, 1, 1, count_include_pad=False) for x in drawn)
    return fixed, moving


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def parts(network: ADRegNet, name: str) -> list[torch.nn.Module]:
    found = [getattr(level, name) for level in network.levels]
    return [module for module in found if module is not None]


# -- sizes -------------------------------------------------------------------------------------


def backbone(widths: tuple[int, ...]) -> int:
    """Two normalised convolutions a level, halvings that keep, doublings, two convolutions."""
    total = 0
    for before, c in zip([1, *widths[:-1]], widths, strict=True):
        total += 27 * (before * c + c * c) + 4 * c
    for c, deep in itertools.pairwise(widths):
        total += 8 * c * c + c + 8 * deep * c + c + 27 * (2 * c * c + c * c) + 4 * c
    return total


@pytest.mark.parametrize(("preset", "total", "millions"), [
    ("paper", 26_936_669, 26.9), ("medium", 6_872_829, 6.9), ("small", 1_792_781, 1.8),
])  # fmt: skip
def test_parameter_counts(preset, total, millions):
    """The exact sums of docs/ad-regnet.md, and the rounded ones of METHODS 1."""
    with torch.device("meta"):
        network = build(AD_REGNET[preset]).network
    w = network.widths
    assert count(network.unet) == backbone(w)
    assert count(*parts(network, "attention")) == sum(6 * (c * c + c) + 1 for c in w)
    assert count(*parts(network, "regional")) == sum(3 * (c * c + c) + c + 1 for c in w)
    assert count(*parts(network, "head")) == sum(81 * c + 3 for c in w)
    gates = sum(27 * (c + 3) * 32 + 32 + 27 * 32 + 1 for c in w[:-1])
    assert count(*parts(network, "gate")) == gates
    assert count(network) == total and abs(total / 1e6 - millions) < 0.05


def test_the_papers_shares_of_the_parameters():
    with torch.device("meta"):
        network = build(AD_REGNET["paper"]).network
    millions = [
        count(network.unet) / 1e6,
        *(count(*parts(network, n)) / 1e6 for n in ("attention", "regional", "head", "gate")),
    ]
    for found, said in zip(millions, (23.3, 2.1, 1.05, 0.08, 0.44), strict=True):
        assert found == pytest.approx(said, abs=max(0.02, 0.005 * said))


def test_small_presets_fit_into_their_weights_file():
    for name in ("brain", "lung", "trial"):
        assert 2 * count(build(AD_REGNET[name])) < 4 * 2**20  # bytes in bfloat16


@pytest.mark.parametrize("make", [tiny, aided])
@pytest.mark.parametrize("shape", [(8, 12, 16), (7, 13, 10), (4, 4, 4)])
def test_any_size_gives_a_field_of_that_size(make, shape):
    network = make()
    fixed, moving = images(shape, batch=2)
    with torch.no_grad():
        found = network(fixed, moving)
    padded = [-(-n // 4) * 4 for n in shape]
    assert found.displacement.shape == (2, 3, *shape) and found.displacement.dtype == torch.float32
    assert torch.isfinite(found.displacement).all()
    assert [tuple(level.shape[2:]) for level in found.levels] == [
        tuple(n // 2**level for n in padded) for level in (2, 1, 0)
    ]


def test_a_stem_predicts_on_a_coarser_grid():
    network = aided(stem=2)
    fixed, moving = images((16, 15, 8))
    with torch.no_grad():
        found = network(fixed, moving)
    assert network.multiple == 8 and found.displacement.shape == (1, 3, 16, 15, 8)
    assert found.levels[-1].shape == (1, 3, 8, 8, 4)
    assert torch.equal(found.displacement, enlarged(found.levels[-1], 2)[:, :, :, :15])


# -- cross-attention ---------------------------------------------------------------------------


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


# -- fields ------------------------------------------------------------------------------------


def test_a_constant_coarse_field_is_worth_its_voxels_at_full_size():
    """One voxel of level l is 2**l voxels of the image, wherever it is read."""
    field = torch.ones(1, 3, 2, 3, 2)
    for level in (1, 2, 3):
        wide = enlarged(field, 2**level)
        assert torch.allclose(wide, torch.full((), 2.0**level))
        field_by_steps = field
        for _ in range(level):
            field_by_steps = enlarged(field_by_steps)
        assert torch.allclose(field_by_steps, wide)


def test_enlarged_fields_lie_where_strided_convolutions_put_them():
    """A linear field stays linear with its middle in place: voxel j covers 2 j and 2 j + 1."""
    coarse = torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(1, 3, 6, 4, 4)
    fine = enlarged(coarse)[0, 0, :, 2, 2]
    where = (torch.arange(12.0) - 0.5) / 2
    assert torch.allclose(fine[1:-1], 2 * where[1:-1])


@pytest.mark.parametrize("make", [tiny, aided])
def test_without_weight_the_result_is_the_enlarged_coarsest_field(make):
    """METHODS 10.6: W = 0 everywhere; a mask of zeros for M_l does it."""
    network = make()
    fixed, moving = images()
    with torch.no_grad():
        found = network(fixed, moving, torch.zeros_like(fixed))
        expected = enlarged(enlarged(found.levels[0]))
        assert expected.abs().max() > 1e-3
        assert torch.allclose(found.displacement, expected, atol=1e-5)
        whole = network(fixed, moving)
        assert torch.allclose(whole.levels[0], found.levels[0])
        assert not torch.allclose(whole.displacement, expected, atol=1e-3)


def test_blend_by_hand():
    network = tiny()
    fixed, moving = images()
    with torch.no_grad():
        found = network(fixed, moving)
    for coarse, level in zip(found.answers, found.answers[1:], strict=False):
        w, up = level.weight, enlarged(coarse.field)
        assert (w > 0).all() and (w < 1).all() and (w <= level.importance).all()
        assert torch.allclose(level.field, w * level.update + (1 - w) * up, atol=1e-6)
    assert found.answers[0].weight is None
    assert torch.equal(found.answers[0].field, found.answers[0].update)
    assert torch.equal(found.displacement, found.levels[-1])


def test_compose_by_hand():
    """Phi_l(x) = W phi_l(x) + up(Phi)(x + W phi_l(x)): what a second warp would do, in one."""
    network = aided(integrate=0)
    fixed, moving = images()
    with torch.no_grad():
        found = network(fixed, moving)
        middle, fine = found.answers[1:]
        step = fine.weight * fine.update
        above = enlarged(middle.field)
        assert torch.allclose(found.displacement, compose(above, step), atol=1e-6)
        assert torch.allclose(found.displacement, step + warp(above, step), atol=1e-6)


def test_velocities_are_integrated_once_in_a_blend_and_level_by_level_in_a_chain():
    fixed, moving = images()
    with torch.no_grad():
        blended, chained = tiny(integrate=3)(fixed, moving), aided(integrate=3)(fixed, moving)
    assert torch.allclose(blended.displacement, integrate(blended.answers[-1].field, 3))
    coarse, middle, fine = chained.answers
    step = integrate(fine.weight * fine.update, 3)
    assert torch.allclose(chained.displacement, compose(enlarged(middle.field), step), atol=1e-6)
    assert torch.allclose(coarse.field, integrate(coarse.update, 3))


def test_a_guided_network_reads_the_moving_features_where_the_coarser_field_points():
    network = aided(integrate=0)
    level, moving = network.level(0), torch.rand(1, 4, 8, 8, 8)
    coarse = torch.zeros(1, 3, 4, 4, 4)
    coarse[:, 1] = 1  # one coarse voxel along y: two here
    read = level.read(moving, coarse)
    assert torch.allclose(read[:, :, :, :6], moving[:, :, :, 2:], atol=1e-5)
    assert tiny().level(0).read(moving, coarse) is moving


def test_a_mask_stands_for_the_regional_map():
    network = tiny()
    fixed, moving = images()
    mask = torch.zeros_like(fixed)
    mask[..., 8:] = 1
    with torch.no_grad():
        found = network(fixed, moving, mask)
    weight = found.answers[-1].weight
    assert not weight[..., :8].any() and (weight[..., 8:] > 0).all()
    coarse = enlarged(found.levels[1])
    assert torch.allclose(found.displacement[..., :8], coarse[..., :8], atol=1e-6)


# -- switches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny, aided])
@pytest.mark.parametrize("off", [
    {"attention": False}, {"regional": False}, {"multiresolution": False},
    {"attention": False, "regional": False},
])  # fmt: skip
def test_the_papers_ablation(make, off):
    """Each part can be left out: its parameters go, the answer still depends on both images."""
    network, whole = make(**off), make()
    fixed, moving = images()
    with torch.no_grad():
        found = network(fixed, moving).displacement
        assert not torch.allclose(found, network(fixed, fixed).displacement, atol=1e-6)
        assert not torch.allclose(found, network(moving, moving).displacement, atol=1e-6)
        assert not torch.allclose(found, network(moving, fixed).displacement, atol=1e-6)
    names = {name.split(".")[2] for name, _ in network.named_parameters() if "levels." in name}
    assert ("attention" in names) == off.get("attention", True)
    assert ("regional" in names) == off.get("regional", True)
    assert len(network.levels) == (1 if "multiresolution" in off else 3)
    assert "multiresolution" not in off or "gate" not in names
    assert not network.looks(SHAPE) if "attention" in off else network.looks(SHAPE)
    assert count(network) < count(whole) + 200


@pytest.mark.parametrize("wrong", [
    {"fusion": "sum"}, {"alpha": 1.0}, {"stem": 3}, {"guided": True},
])  # fmt: skip
def test_a_wrong_network_is_a_usage_error(wrong):
    with pytest.raises(UsageError, match=f"network.{next(iter(wrong))}"):
        tiny(**wrong)


def test_heads_near_zero_start_at_the_identity():
    fixed, moving = images()
    with torch.no_grad():
        still = aided(flow_init=1e-5)(fixed, moving).displacement.abs().max()
        published = tiny()(fixed, moving).displacement.abs().max()
    assert 0 < still < 0.01 < published


def test_which_attention_was_used_depends_on_the_size_and_the_cap():
    with torch.device("meta"):
        network = build(AD_REGNET["paper"]).network
    seen = network.looks((160, 192, 224))
    assert [number for number, s in seen.items() if s.dense] == [3, 4]
    assert seen[3].tokens == 20 * 24 * 28 and seen[0].window == (4, 4, 4)


# -- the same by other means -------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny, aided])
def test_checkpointing_gives_the_same_gradients(make):
    fixed, moving = images(batch=2)
    gradients = []
    for on in (False, True):
        network = make(checkpointing=on).train()
        network(fixed, moving).displacement.square().mean().backward()
        gradients.append({k: p.grad for k, p in network.named_parameters()})
    for name, plain in gradients[0].items():
        again = gradients[1][name]
        assert (plain is None) == (again is None), name
        assert plain is None or torch.allclose(plain, again, rtol=1e-4, atol=1e-8), name
    missing = [k for k, g in gradients[0].items() if g is None]
    assert not missing, missing


@pytest.mark.parametrize("make", [tiny, aided])
@pytest.mark.parametrize("mixed", [False, True])
def test_slab_by_slab_is_the_same(make, mixed, monkeypatch):
    """Convolutions, norms and windows of large maps, as a registration has them."""
    network = make()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    fixed, moving = images((12, 12, 16), batch=2)
    found = []
    for large, slab in ((2**24, 2**24), (64, 3000)):
        monkeypatch.setattr(slabs, "LARGE", large)
        monkeypatch.setattr(slabs, "SLAB", slab)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            found.append(network(fixed, moving).displacement)
    assert torch.allclose(*found, atol=0.05 if mixed else 1e-5, rtol=1e-4)
    assert list(slabs.slabs(12, 1000)) == [(n, n + 3) for n in range(0, 12, 3)]
    with torch.enable_grad():
        together = network(fixed, moving).displacement
    assert torch.allclose(found[0], together, atol=0.05 if mixed else 1e-5, rtol=1e-4) or mixed


def test_a_map_of_one_voxel_has_a_norm():
    norm = slabs.Normalised(3)
    with torch.no_grad():
        assert norm(torch.randn(2, 3, 1, 1, 1)).abs().max() < 1e-5


@pytest.mark.parametrize("channels", [1, 3, 16, 20])
@pytest.mark.parametrize("sides", [(5, 6, 7), (2, 6, 7)])
def test_company_of_zeros_changes_no_convolution(channels, sides):
    torch.manual_seed(0)
    layer = torch.nn.Conv3d(channels, 4, 3, padding=1)
    x = torch.randn(2, channels, *sides)
    assert torch.allclose(slabs.convolve(layer, x), layer(x), atol=1e-5)


def test_mixed_precision_trains_to_finite_gradients_and_gives_float32_fields():
    network = aided().train()
    fixed, moving = images((8, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        u = network(fixed, moving).displacement
    assert u.dtype == torch.float32
    u.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None) < 1e4


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
        maps, _ = level.seen(f, m)
        head = functional.conv3d(maps, level.head.weight, level.head.bias, padding=1)
        update = level(f, m).update - head
        _, way = level.matching(f, m)
    inner = (slice(None), slice(None), *(slice(1, -1),) * 3)
    torch.testing.assert_close(update[inner], 0.5 * functional.avg_pool3d(way, 3, 1))
    assert update.abs().max() > 0.05
    with pytest.raises(UsageError, match="compare"):
        tiny(correlate=1)
