"""VTN: sizes, one axis order, the order of the cascade, its parts."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional
from vtn_cases import NARROW, context, count, lively, pair_of, small

from regtool.api import UsageError
from regtool.engine.training.validate import displacement_of
from regtool.nn.inflate import inflate
from regtool.nn.precision import protect_convolutions
from regtool.spatial.compose import affine_to_displacement, apply_affine, compose
from regtool.spatial.integrate import integrate
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import identity, warp
from regtool_vtn.affine import AnyHead, about_the_middle, moments
from regtool_vtn.encoder import Encoder
from regtool_vtn.model import VTN, Cascaded, build
from regtool_vtn.options import VTNOptions
from regtool_vtn.presets import VTN as PRESETS

# -- the network -------------------------------------------------------------------------------


def test_published_parameter_counts():
    """Affine stem, deformable stems and the whole as in DiffuseReg's low-resolution variant."""
    model = build(PRESETS["paper"])
    assert count(model) == 6_263_361
    assert count(model.affine) == 1_041_168
    assert [count(stem) for stem in model.stems] == [1_740_731] * 3
    assert count(model.affine.head) == 12 * 128 * 2 * 8 * 8
    widths = [layer.out_channels for layer in model.affine.encoder.down]
    assert widths == [16, 32, 64, 64, 128, 128]


def test_the_head_for_every_size_is_small():
    model, flat = VTN(3), VTN(2)
    assert count(model) == 6_263_361 - 12 * 128 * 2 * 8 * 8 + 12 * (4 * 128) + 12
    assert count(flat.affine.head) == 6 * (3 * 128) + 6
    assert count(build(PRESETS["acdc-3d"])) == count(model)


@pytest.mark.parametrize("shape", [(9, 17, 12), (20, 33)])
@pytest.mark.parametrize("squarings", [0, 3])
def test_any_size_gives_both_parts_of_that_size(shape, squarings):
    model, pair = lively(len(shape), integrate=squarings), pair_of(shape, batch=2)
    with torch.no_grad():
        answer = model(pair, VTNOptions(passes=2), context())
    n = len(shape)
    assert answer.displacement.shape == (2, n, *shape) and answer.affine.shape == (2, n + 1, n + 1)
    assert answer.displacement.dtype == answer.affine.dtype == torch.float32
    assert torch.isfinite(answer.displacement).all() and answer.displacement.abs().max() > 0.1
    assert not torch.allclose(answer.affine[0], torch.eye(n + 1), atol=1e-3)
    assert not torch.equal(answer.affine[0], answer.affine[1])


def test_the_published_affine_head_refuses_other_sizes():
    model, x = small(affine="fixed", size=(16, 32, 32)), torch.rand(1, 1, 16, 32, 32)
    assert model.affine.head.matrix.kernel_size == (1, 2, 2)
    with torch.no_grad():
        assert model.look(x, x).total.shape == (1, 3, 16, 32, 32)
        with pytest.raises(UsageError, match="16 x 32 x 32 only, not 16 x 32 x 48"):
            model.look(*[torch.rand(1, 1, 16, 32, 48)] * 2)


@pytest.mark.parametrize("wrong", [
    {"affine": "fixed"}, {"affine": "moments"}, {"stems": 0}, {"widths": (16, 32, 64)},
    {"start": "zero"},
])  # fmt: skip
def test_a_wrong_network_is_a_usage_error(wrong):
    with pytest.raises(UsageError):
        small(**wrong)


@pytest.mark.parametrize("squarings", [0, 5])
def test_the_default_network_starts_near_the_identity_the_published_one_does_not(squarings):
    pair = pair_of((16, 16, 32))
    totals = {}
    for name, network in {"still": {}, "published": {"flow_init": None}}.items():
        model = small(integrate=squarings, **network)
        with torch.no_grad():
            totals[name] = model.look(pair.moving.image, pair.fixed.image).total.abs().max()
    assert totals["still"] < 0.01 and totals["published"] > 0.1


def test_activation_stands_before_every_convolution():
    """The first included, as released: there it leaves a tenth of what is dark."""
    torch.manual_seed(0)
    fixed, moving = 2 * torch.rand(2, 1, 1, 16, 16, 16) - 1
    for on in (True, False):
        encoder = Encoder(3, NARROW, input_activation=on)
        x, wanted = torch.cat([fixed, moving], 1), []
        for number, layer in enumerate(encoder.down):
            seen = torch.where(x < 0, 0.1 * x, x) if number or on else x
            x = functional.conv3d(seen, layer.weight, layer.bias, layer.stride, padding=1)
            wanted.append(x)
        kept = [wanted[i] for i in (0, 1, 3, 5)]
        for ours, theirs in zip(encoder(fixed, moving), kept, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)
    sizes = [x.shape[2] for x in encoder(fixed, moving)]
    assert sizes == [8, 4, 2, 1]


@pytest.mark.parametrize("ndim", [2, 3])
def test_he_weights_keep_the_size_of_features_and_the_first_field_still(ndim):
    torch.manual_seed(0)
    x = torch.randn(2, 2, 1, *((64,) * ndim if ndim == 2 else (48,) * ndim))
    sizes = {}
    for start in ("torch", "he"):
        model = VTN(ndim, (8, 16, 16, 32), start=start)
        deepest = model.stems[0].encoder(*x)[-1]
        grown = model.stems[0].enlarge[0](functional.leaky_relu(deepest, 0.1))
        sizes[start] = [float(f.detach().square().mean().sqrt()) for f in (deepest, grown)]
        assert model.stems[0].flow.weight.std() < 2e-5 and not model.stems[0].flow.bias.any()
    assert max(sizes["torch"]) < 0.08
    assert all(0.2 < size < 2 for size in sizes["he"])  # zeros beyond the border take some away


def test_a_stems_field_is_twenty_voxels_shared_among_the_stems():
    torch.manual_seed(0)
    model = small(stems=2, flow_init=None)
    stem, seen = model.stems[0], []
    stem.flow.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        field = stem(*torch.rand(2, 1, 1, 16, 32, 16))
    assert torch.allclose(field, seen[0] * 20 / 2) and field.shape == (1, 3, 16, 32, 16)


# -- the affine part ---------------------------------------------------------------------------


def test_the_affine_map_has_one_axis_order():
    """Coordinates and components both (z, y, x): W[1, 2] moves along y in proportion to x."""
    shape, w, b = (5, 7, 9), torch.zeros(2, 3, 3), torch.zeros(2, 3)
    w[0, 1, 2], b[0, 0] = 0.25, 2.0
    w[1] = 0.1 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    matrix = about_the_middle(w, b, shape)
    u = affine_to_displacement(matrix, shape)
    x = identity(shape)
    assert torch.allclose(u[0, 1], 0.25 * (x[2] - 4)) and torch.allclose(u[0, 0], 2 * x[2] ** 0)
    assert not u[0, 2].any()
    middle = torch.tensor([2.0, 3.0, 4.0])
    wanted = torch.einsum("ij,jzyx->izyx", w[1], x - middle[:, None, None, None])
    assert torch.allclose(u[1], wanted, atol=1e-5)


def test_moments_tell_where_features_are():
    features = torch.zeros(1, 2, 3, 3, 5)
    features[0, 0, 2, 1, 0] = 45.0  # the far end along z, the middle along y, the near end along x
    features[0, 1] = 1.0
    assert torch.allclose(moments(features), torch.tensor([[1.0, 0, 0, 0, -1, 0, 1, 1]]), atol=1e-6)
    flat = moments(torch.ones(1, 1, 1, 2, 2))
    assert torch.allclose(flat, torch.tensor([[0.0, 0, 0, 1]]))


def test_the_head_learns_an_affine_map_at_any_size():
    """Least squares from features that hold the displacement itself, then another size."""
    torch.manual_seed(0)
    head, w = AnyHead(3, 3), 0.1 * torch.randn(3, 3)
    search = {"max_iter": 100, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS(head.parameters(), **search)

    def features(shape: tuple[int, ...], w: Tensor, b: Tensor) -> Tensor:
        axes = [torch.linspace(-1, 1, n) for n in shape]
        x = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        return torch.einsum("bij,jzyx->bizyx", w, x) + b[:, :, None, None, None]

    ws, bs = 0.1 * torch.randn(30, 3, 3), 0.1 * torch.randn(30, 3)
    halves, given = torch.tensor([8.0, 16.0, 24.0]), features((4, 4, 4), ws, bs)

    def closure() -> Tensor:
        optimiser.zero_grad()
        found_w, found_b = head(given, (16, 32, 48))
        loss = (found_w - ws).square().sum() + (found_b / halves - bs).square().sum()
        loss.backward()
        return loss

    assert float(closure().detach()) > 1
    optimiser.step(closure)
    with torch.no_grad():
        found, shift = head(features((4, 4, 4), w[None], w[:1]), (32, 32, 48))
    assert torch.allclose(found[0], w, atol=1e-3)
    assert torch.allclose(shift[0], w[0] * torch.tensor([16.0, 16.0, 24.0]), atol=0.02)


# -- the cascade -------------------------------------------------------------------------------


def test_each_stem_sees_the_original_warped_once():
    model, pair = lively(), pair_of((16, 32, 16))
    moving, seen = pair.moving.image, []
    for stem in model.stems:
        stem.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
    with torch.no_grad():
        found = model.look(moving, pair.fixed.image)
    state = Cascaded(found.affine, (16, 32, 16))
    for target, warped, field in seen:
        assert torch.equal(target, 2 * pair.fixed.image - 1)
        assert torch.equal(warped, 2 * warp(moving, state.total, padding="zeros") - 1)
        state = state.after(field, field)
    assert len(seen) == 3 and torch.equal(state.total, found.total)


def test_the_cascade_composes_as_simpleitk_does():
    """``A(x3)``, x3 = x2 + u1(x2), x2 = x1 + u2(x1), x1 = x + u3(x): the last stem comes first."""
    shape = (16, 18, 20)
    draws = torch.Generator().manual_seed(3)
    moves = [gaussian(torch.randn(1, 3, *shape, generator=draws), 1.5) for _ in range(3)]
    moves = [1.5 * move / move.abs().max() for move in moves]
    w = 0.1 * torch.randn(1, 3, 3, generator=draws)
    matrix = about_the_middle(w, torch.tensor([[0.7, -0.4, 1.1]]), shape)
    found = Cascaded(matrix, shape)
    for move in moves:
        found = found.after(move, move)

    chain = sitk.CompositeTransform(3)  # what is added last is applied first
    m = matrix[0].double().numpy()[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(m[:3, :3].ravel().tolist())
    affine.SetTranslation(m[:3, 3].tolist())
    chain.AddTransform(affine)
    for move in moves:
        values = np.ascontiguousarray(move[0].flip(0).movedim(0, -1).double().numpy())
        chain.AddTransform(sitk.DisplacementFieldTransform(sitk.GetImageFromArray(values, True)))
    for z, y, x in [(7, 8, 9), (6, 8, 11), (9, 7, 8), (8, 10, 10)]:
        wanted = np.array(chain.TransformPoint((float(x), float(y), float(z))))[::-1]
        ours = np.array([z, y, x]) + found.total[0, :, z, y, x].numpy()
        assert np.allclose(ours, wanted, atol=0.02)  # composed fields are sampled on the grid
    turned = Cascaded(matrix, shape)
    for move in reversed(moves):
        turned = turned.after(move, move)
    assert (turned.total - found.total)[0, :, 6:10, 7:11, 8:12].abs().max() > 0.1


@pytest.mark.parametrize("shape", [(16, 32, 16), (13, 18, 20)])
def test_the_parts_that_are_returned_are_the_networks_own_transform(shape):
    """``moving(A(x + u(x)))``, as core chains them, is the warp by the composed field."""
    model, pair = lively(), pair_of(shape, batch=2)
    with torch.no_grad():
        answer = model(pair, VTNOptions(), context())
        total = model.look(pair.moving.image, pair.fixed.image).total
    window = (slice(None), slice(None), *(slice(0, n) for n in shape))
    assert torch.allclose(displacement_of(answer), total[window], atol=1e-4)
    points = apply_affine(answer.affine, identity(shape)[None] + answer.displacement)
    chained = warp(pair.moving.image, points - identity(shape))
    assert torch.allclose(chained, warp(pair.moving.image, total[window]), atol=1e-4)
    assert total.abs().max() > 1


def test_mixed_precision_keeps_the_coordinates():
    """The chain of the parts is still the network's transform, and close to that of float32."""
    model, pair = lively(), pair_of((16, 32, 48))
    protect_convolutions(model)
    with torch.no_grad():
        whole = model.look(pair.moving.image, pair.fixed.image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = model(pair, VTNOptions(), context())
            half = model.look(pair.moving.image, pair.fixed.image)
            total = half.total
    assert answer.displacement.dtype == answer.affine.dtype == total.dtype == torch.float32
    assert torch.allclose(displacement_of(answer), total, atol=1e-4)
    assert torch.allclose(total, whole.total, atol=0.05 * float(whole.total.abs().max()))


def test_further_passes_are_the_deformable_stems_again():
    model, pair = lively(), pair_of((16, 16, 16))
    moving, fixed = pair.moving.image, pair.fixed.image
    with torch.no_grad():
        once = model.look(moving, fixed)
        twice = model.look(moving, fixed, before=once)
        answer = model(pair, VTNOptions(passes=2), context())
    assert len(once.moves) == 3 and len(twice.moves) == 6
    assert torch.equal(answer.affine, once.affine)
    assert torch.equal(answer.displacement, twice.displacement)
    warped = warp(moving, once.total, padding="zeros")
    with torch.no_grad():
        fourth = model.stems[0](2 * fixed - 1, 2 * warped - 1)
    assert torch.allclose(twice.moves[3], fourth, atol=1e-6)


@pytest.mark.parametrize("squarings", [0, 4])
def test_the_stages_that_are_given_compose_to_the_answer(squarings):
    model, pair = lively(integrate=squarings), pair_of((16, 32, 16))
    with torch.no_grad():
        answer = model(pair, VTNOptions(stages=True, passes=2), context())
        found = model.look(pair.moving.image, pair.fixed.image)
    stages = [answer.extras[f"Stage{n}Warp"] for n in range(1, 7)]
    assert len(answer.extras) == 6 and {stage.kind for stage in stages} == {"field"}
    u = stages[0].tensor
    for stage in stages[1:]:
        assert stage.tensor.abs().max() > 0.01
        u = compose(u, stage.tensor)
    assert torch.allclose(u, answer.displacement, atol=1e-5)
    field = found.fields[0]
    assert torch.equal(found.moves[0], integrate(field, squarings) if squarings else field)
    assert not model(pair, VTNOptions(), context()).extras


def test_an_inflated_cascade_sees_equal_slices_as_the_flat_one_does():
    flat, solid = small(2, flow_init=0.02), small(3, flow_init=0.02)
    with torch.no_grad():
        flat.affine.head.linear.bias.uniform_(-0.2, 0.2)
        solid.affine.head.linear.bias.zero_()
        for stem in solid.stems:
            stem.flow.weight[:, 0] = 0  # the output for z, which a flat stem lacks
            stem.flow.bias.zero_()
        inflate(flat, solid)
        moving, fixed = pair_of((16, 32)).moving.image, pair_of((16, 32)).fixed.image
        wanted = flat.look(moving, fixed)
        found = solid.look(*(x[:, :, None].expand(-1, -1, 128, -1, -1) for x in (moving, fixed)))
    assert wanted.total.abs().max() > 0.5
    # Zero padding at the ends of the stack reaches the middle through the moments only.
    assert torch.allclose(found.affine[:, 1:, 1:], wanted.affine, atol=2e-2)
    assert torch.allclose(found.total[:, 1:, 64], wanted.total, atol=0.02)
    assert found.total[:, 0, 64].abs().max() < 1e-3
