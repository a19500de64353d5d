"""DiffuseMorph's networks: published sizes, what they see and give, how they start."""

from __future__ import annotations

import pytest
import torch
from diffusemorph_cases import context, count, small

from regtool.api import Pair, Sample
from regtool.nn.convolution import narrow_convolution
from regtool.nn.inflate import inflate
from regtool.nn.score import ScoreNetwork
from regtool_diffusemorph.field import FieldNetwork
from regtool_diffusemorph.model import build
from regtool_diffusemorph.options import DiffuseMorphOptions
from regtool_diffusemorph.presets import DIFFUSEMORPH


def test_published_parameter_counts():
    volume = build({"ndim": 3, "network": DIFFUSEMORPH["paper"]["network"]})
    assert (count(volume.score), count(volume.field)) == (715_665, 361_299)
    with torch.device("meta"):
        flat = build({"ndim": 2, "network": DIFFUSEMORPH["paper-face"]["network"]})
    assert (count(flat.score), count(flat.field)) == (15_936_129, 74_736_258)


def test_the_parts_of_the_score_network_have_the_released_sizes():
    """Encoder, middle and decoder as FSDiffReg, which shares them, counts them."""
    score = ScoreNetwork(3, 8, groups=4, attention="linear")
    parts = [(score.stem, score.down, score.smaller), (score.middle, score.attention),
             (score.up, score.larger)]  # fmt: skip
    sizes = [sum(count(part) for part in group) for group in parts]
    assert sizes == [149_552, 115_744, 449_584]


def test_the_small_2d_presets_have_voxelmorph_sized_fields():
    for name in ("paper-slices", "acdc-2d"):
        assert count(FieldNetwork(2, **DIFFUSEMORPH[name]["network"]["field"])) < 500_000


@pytest.mark.parametrize("shape", [(48, 33), (16, 17, 40)])
@pytest.mark.parametrize("integrate", [0, 4])
def test_any_size_gives_a_displacement_of_that_size(shape, integrate):
    model = small(len(shape), integrate)
    pair = Pair(*(Sample(torch.rand(2, 1, *shape), (1.0,) * len(shape)) for _ in range(2)))
    with torch.no_grad():
        u = model(pair, DiffuseMorphOptions(passes=2), context()).displacement
    assert u.shape == (2, len(shape), *shape)
    assert torch.isfinite(u).all() and u.abs().max() > 0


@pytest.mark.parametrize("attention", ["full", "linear"])
def test_attention_is_what_its_formula_says(attention):
    torch.manual_seed(0)
    layer = ScoreNetwork(2, 8, groups=4, attention=attention).attention
    x = torch.randn(1, 32, 3, 5)
    q, k, v = layer.qkv(layer.norm(x)).reshape(3, 32, 15)
    if attention == "full":
        found = v @ ((q.T @ k) / 32**0.5).softmax(1).T
    else:
        heads = [t.reshape(4, 8, 15) for t in (q, k, v)]
        found = torch.stack(
            [(b.softmax(1) @ c.T).T @ a for a, b, c in zip(*heads, strict=True)]
        ).reshape(32, 15)
    wanted = x + layer.out(found.reshape(1, 32, 3, 5))
    assert torch.allclose(layer(x), wanted, atol=1e-5)


def test_the_score_network_knows_the_step():
    score = ScoreNetwork(2, 8, groups=4, attention="linear")
    x = torch.randn(1, 3, 16, 16).expand(2, -1, -1, -1)
    with torch.no_grad():
        one, other = score(x, torch.tensor([0, 1500]))
        again = score(x, torch.tensor([1500]))[0]
    assert not torch.allclose(one, other, atol=1e-3)
    assert torch.allclose(other, again, atol=1e-5)


def test_networks_start_as_released():
    """Orthogonal score network, normal(0, 0.02) deformation network with its last layer too."""
    score, field = ScoreNetwork(3, 8, groups=4, attention="linear"), FieldNetwork(3)
    rows = score.down[2].first.convolution.weight.flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-4)
    for layer in (field.flow, field.larger[0], field.down[1][0]):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.15)
    assert FieldNetwork(3, flow_init=1e-5).flow.weight.std() < 2e-5


def test_zeros_beside_the_last_layers_channels_change_nothing():
    field = FieldNetwork(3)
    x = torch.randn(1, 8, 4, 6, 5)
    assert torch.allclose(narrow_convolution(field.flow, x), field.flow(x), atol=1e-6)


def test_an_inflated_network_sees_equal_slices_as_the_flat_one_does():
    flat, solid = small(2), small(3)
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    inflate(flat, solid)
    slices = 2 * torch.rand(2, 1, 32, 48) - 1
    volumes = slices[:, :, None].expand(-1, -1, 64, -1, -1)
    t = torch.tensor([100])
    with torch.no_grad():
        wanted = flat.field(slices.transpose(0, 1))
        found = solid.field(volumes.transpose(0, 1))[:, :, 32]
        noise = flat.noise(slices[:1], slices[1:], slices[1:], t)
        solid_noise = solid.noise(volumes[:1], volumes[1:], volumes[1:], t)[:, :, 32]
    # Zero padding at the ends of the stack reaches the middle through the deepest level only.
    assert torch.allclose(found[:, 1:], wanted, atol=0.05 * float(wanted.abs().max()))
    assert torch.allclose(solid_noise, noise, atol=0.1 * float(noise.abs().max()))
