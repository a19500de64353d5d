"""FSDiffReg: sizes, heads and fields, feature guidance, inflation, further passes."""

from __future__ import annotations

import pytest
import torch
from fsdiffreg_cases import NATIVE, context, count, pair_of, small
from torch.nn import functional

from regtool.nn.inflate import inflate
from regtool.spatial.compose import compose
from regtool.spatial.integrate import integrate
from regtool.spatial.warp import warp
from regtool_fsdiffreg.heads import FullHead, GuidedHead, Heads
from regtool_fsdiffreg.model import FSDiffReg, build
from regtool_fsdiffreg.options import FSDiffRegOptions
from regtool_fsdiffreg.presets import FSDIFFREG

# -- the network -------------------------------------------------------------------------------


def test_published_parameter_counts():
    """Encoder, middle, both decoders and heads as the released 3-D network has them."""
    model = build({"ndim": 3, "network": FSDIFFREG["paper"]["network"]})
    score, registration = model.score, model.registration
    assert count(model) == 1_320_471
    assert count(score.stem, score.down, score.smaller) == 149_552
    assert count(score.middle, score.attention) == 115_744
    assert count(score.up, score.larger) == 449_584
    assert count(registration.up, registration.larger) == 582_544
    assert count(registration.heads.guided) == 21_512
    assert count(score) == 715_665  # DiffuseMorph's
    assert len(registration.heads.guided) == 8


def test_the_2d_form_and_the_one_without_feature_guidance():
    """Counted by hand from the 3-D network's parts with 9 instead of 27 taps, 2 instead of 3."""
    with torch.device("meta"):
        flat, plain = FSDiffReg(2, NATIVE), FSDiffReg(3, NATIVE, fdg=False)
    assert count(flat) == 466_759
    widths = (32, 32, 32, 32, 16, 16, 8, 8)
    attention = sum(2 * c + c * c + c for c in widths)
    wider_blocks = sum(2 * c + 28 * c * c for c in widths)
    assert count(plain) == 1_320_471 - attention - wider_blocks


@pytest.mark.parametrize("shape", [(20, 33), (9, 17, 12)])
@pytest.mark.parametrize("squarings", [0, 4])
def test_any_size_gives_a_displacement_of_that_size(shape, squarings):
    model, pair = small(len(shape), integrate=squarings), pair_of(shape, batch=2)
    with torch.no_grad():
        u = model(pair, FSDiffRegOptions(passes=2), context()).displacement
        look = model.look(pair.moving.image, pair.fixed.image)
    assert u.shape == (2, len(shape), *shape) and u.dtype == torch.float32
    assert torch.isfinite(u).all() and u.abs().max() > 0
    whole = model.registration.mean(look.fields)
    wanted = integrate(whole, squarings) if squarings else whole
    window = (slice(None), slice(None), *(slice(0, n) for n in shape))
    assert torch.allclose(look.displacement, wanted[window], atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 24), (8, 16, 12)])
def test_the_mean_of_the_fields_that_are_given_is_the_answer(shape):
    model, pair = small(len(shape)), pair_of(shape, batch=2)
    with torch.no_grad():
        answer = model(pair, FSDiffRegOptions(fields=True, score=True, gamma=2.0), context())
        look = model.look(pair.moving.image, pair.fixed.image)
    fields = [answer.extras[f"Scale{n}Warp"] for n in range(1, 10)]
    assert len(answer.extras) == 11 and {f.kind for f in fields} == {"field"}
    stacked = torch.stack([f.tensor for f in fields])
    assert stacked.shape == (9, 2, len(shape), *shape)
    assert torch.allclose(stacked.mean(0), answer.displacement, atol=1e-5)
    assert stacked.std(0).max() > 0.01  # nine different ones
    assert torch.equal(answer.extras["Score"].tensor, look.noise)
    weight = answer.extras["Weight"].tensor
    assert torch.allclose(weight, 1 / (1 + torch.exp(-look.noise)) ** 2, atol=1e-6)
    assert not model(pair, FSDiffRegOptions(), context()).extras


def test_velocities_are_named_so_and_their_mean_is_integrated_to_the_answer():
    model, pair = small(2, integrate=5), pair_of((16, 24))
    with torch.no_grad():
        answer = model(pair, FSDiffRegOptions(fields=True), context())
    fields = [answer.extras[f"Scale{n}Velocity"].tensor for n in range(1, 10)]
    assert len(answer.extras) == 9
    mean = torch.stack(fields).mean(0)
    assert torch.allclose(integrate(mean, 5), answer.displacement, atol=1e-5)
    assert not torch.allclose(mean, answer.displacement, atol=1e-3)


def test_a_head_is_what_its_formula_says():
    """One normalisation for both inputs, keys softmaxed over space, four heads, no projections."""
    torch.manual_seed(0)
    head = GuidedHead(2, 8, groups=4)
    with torch.no_grad():
        head.norm.weight.uniform_(0.5, 2)
    stream, feature = torch.randn(2, 1, 8, 3, 5)
    q, k = (functional.group_norm(x, 4, head.norm.weight, head.norm.bias).reshape(4, 2, 15)
            for x in (stream, feature))  # fmt: skip
    found = torch.stack(
        [(key.softmax(1) @ key.T).T @ query for query, key in zip(q, k, strict=True)]
    )
    asked = stream + head.out(found.reshape(1, 8, 3, 5))
    assert torch.allclose(head(stream, feature), head.flow(asked), atol=1e-5)
    plain = GuidedHead(2, 8, groups=4, guided=False)
    assert torch.equal(plain(stream, feature), plain.flow(stream))


def test_coarse_fields_are_repeated_and_keep_their_numbers():
    heads = Heads(2, (8, 8), groups=4)
    for layer in heads.last_layers[:-1]:
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    coarse, full = torch.randn(1, 2, 2, 3), torch.randn(1, 2, 8, 12)
    first, second, third = heads.each([coarse, full], full)
    assert torch.allclose(first, coarse.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert torch.equal(third, full) and torch.allclose(second, full)
    assert torch.allclose(heads.mean([coarse, full], full), (first + 2 * full) / 3, atol=1e-6)


def test_the_full_head_sees_the_noise():
    head = FullHead(2, 8)
    assert head.layer.norm.num_groups == 3
    stream, noise = torch.randn(1, 8, 4, 6), torch.randn(1, 1, 4, 6)
    wanted = head.layer(torch.cat([stream, noise], 1))
    assert torch.allclose(head(stream, noise), wanted, atol=1e-6)


@pytest.mark.parametrize("fdg", [True, False])
def test_feature_guidance_can_be_taken_away(fdg):
    """Without it the fields do not change with the diffusion decoder's features, with it they do;
    the predicted noise reaches the last field in both."""
    model = small(2, fdg=fdg)
    x, t = torch.randn(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        scored = model.score.scored(x, t)
        before = model.registration(scored)
        scored.up = [feature + torch.randn_like(feature) for feature in scored.up]
        after = model.registration(scored)
        scored.noise = scored.noise + torch.randn_like(scored.noise)
        louder = model.registration(scored)
    same = [torch.equal(a, b) for a, b in zip(before.coarse, after.coarse, strict=True)]
    assert not any(same) if fdg else all(same)
    assert not torch.equal(after.full, louder.full)


def test_networks_start_as_released_unless_asked_to_start_still():
    model, still = small(3), small(3, flow_init=1e-5)
    rows = model.registration.up[0].first.convolution.weight.flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-4)
    for ours, other in zip(
        model.registration.heads.last_layers, still.registration.heads.last_layers, strict=True
    ):
        rows = ours.weight.flatten(1)
        assert torch.allclose(rows @ rows.T, torch.eye(3), atol=1e-4)
        assert other.weight.std() < 2e-5
    pair = pair_of((8, 16, 16))
    with torch.no_grad():
        moved, unmoved = (
            m.look(pair.moving.image, pair.fixed.image).displacement.abs().max()
            for m in (model, still)
        )
    assert moved > 0.1 and unmoved < 0.01


def test_an_inflated_network_sees_equal_slices_as_the_flat_one_does():
    flat, solid = small(2), small(3)
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        inflate(flat, solid)
        moving, fixed = torch.rand(2, 1, 1, 16, 24)
        wanted = flat.look(moving, fixed)
        volumes = (image[:, :, None].expand(-1, -1, 64, -1, -1) for image in (moving, fixed))
        found = solid.look(*volumes)
    # Zero padding at the ends of the stack reaches the middle through the deepest level only.
    field, noise = found.field[:, 1:, 32], found.noise[:, :, 32]
    assert torch.allclose(field, wanted.field, atol=0.1 * float(wanted.field.abs().max()))
    assert torch.allclose(noise, wanted.noise, atol=0.1 * float(wanted.noise.abs().max()))


def test_a_further_pass_sees_the_warped_image_and_is_composed():
    model, pair = small(2), pair_of((16, 24))
    moving, fixed = pair.moving.image, pair.fixed.image
    with torch.no_grad():
        once = model.look(moving, fixed).displacement
        twice = model(pair, FSDiffRegOptions(passes=2), context()).displacement
        second = model.look(warp(moving, once, padding="zeros"), fixed).displacement
    assert torch.allclose(twice, compose(once, second), atol=1e-5)
