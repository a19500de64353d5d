"""AD-RegNet: sizes, switches, and the same answer by other means."""

from __future__ import annotations

import itertools

import pytest
import torch
from ad_regnet_cases import SHAPE, aided, count, images, parts, tiny

from regtool.api import UsageError
from regtool_ad_regnet import slabs
from regtool_ad_regnet.fusion import enlarged
from regtool_ad_regnet.model import build
from regtool_ad_regnet.presets import AD_REGNET

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
