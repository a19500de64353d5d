"""FSDiffReg: sizes, the nine fields, guidance by features and by score, the loss by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from regtool.api import Context, Pair, Sample, UsageError
from regtool.diffusion.draw import Draw, draw
from regtool.diffusion.schedule import SR3
from regtool.nn.inflate import inflate
from regtool.spatial.compose import compose
from regtool.spatial.integrate import integrate
from regtool.spatial.warp import warp
from regtool_fsdiffreg.heads import FullHead, GuidedHead, Heads
from regtool_fsdiffreg.loss import GuidedLoss
from regtool_fsdiffreg.model import FSDiffReg, build, score_weight
from regtool_fsdiffreg.options import FSDiffRegOptions
from regtool_fsdiffreg.presets import FSDIFFREG
from regtool_fsdiffreg.recipe import recipe

NATIVE = {"width": 8, "groups": 4, "attention": "linear"}
PAPER = FSDIFFREG["paper"]["training"]


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def small(ndim: int, **network) -> FSDiffReg:
    torch.manual_seed(0)
    return FSDiffReg(ndim, NATIVE, **network)


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)


def pair_of(shape: tuple[int, ...], batch: int = 1) -> Pair:
    """Two smooth random images."""
    draws = torch.Generator().manual_seed(1)
    pool = functional.avg_pool2d if len(shape) == 2 else functional.avg_pool3d
    images = torch.rand(2, batch, 1, *shape, generator=draws)
    return Pair(*(Sample(pool(x, 5, 1, 2), (2.0,) * len(shape)) for x in images))


def discs(size: int = 32) -> Pair:
    """A disc that shrinks: an overfitting exercise with labels."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    radius = (x**2 + y**2).sqrt()

    def sample(edge: float) -> Sample:
        soft = torch.sigmoid((edge - radius) * 20) * 0.8 + 0.1
        return Sample(soft[None, None], (1.0, 1.0), labels=(radius < edge).long()[None, None])

    return Pair(sample(0.4), sample(0.65))


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


# -- the loss ----------------------------------------------------------------------------------


def correlation(fixed: Tensor, warped: Tensor) -> Tensor:
    """Squared local correlation of (1, 1, H, W) over 9 x 9 windows, zeros outside."""
    f, m = (functional.unfold(x.double(), 9, padding=4)[0] for x in (fixed, warped))
    f, m = f - f.mean(0), m - m.mean(0)
    cc = (f * m).sum(0) ** 2 / ((f * f).sum(0) * (m * m).sum(0) + 1e-5)
    return cc.reshape(fixed.shape)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_loss_is_the_papers(gamma):
    """Noise error + 20 weighted correlation + 20 smoothness at the drawn steps."""
    model, pair = small(2), pair_of((16, 24))
    moving, fixed = pair.moving.image, pair.fixed.image
    with torch.no_grad():
        output = GuidedLoss({**PAPER, "gamma": gamma})(model, pair, context())
        drawn = draw(SR3, fixed, context().generator)
        level = SR3.levels[drawn.t].float().reshape(-1, 1, 1, 1)
        state = level.sqrt() * (2 * fixed - 1) + (1 - level).sqrt() * drawn.noise
        scored = model.score.scored(torch.cat([2 * moving - 1, 2 * fixed - 1, state], 1), drawn.t)
        u = model.registration.mean(model.registration(scored))
    cc = correlation(fixed, warp(moving, u, padding="zeros"))
    weight = torch.sigmoid(scored.noise) ** gamma
    smoothness = (torch.diff(u, dim=2).square().mean() + torch.diff(u, dim=3).square().mean()) / 2
    wanted = {
        "noise": float((scored.noise - drawn.noise).square().mean()),
        "similarity": -20 * float((weight * cc).mean()),
        "smoothness": 20 * float(smoothness),
    }
    assert {k: float(v) for k, v in output.terms.items()} == pytest.approx(wanted, rel=1e-3)
    assert torch.allclose(output.prediction.displacement, u, atol=1e-5)


@pytest.mark.parametrize(("score", "gamma", "weight"), [
    (0.0, 1.0, 0.5), (0.0, 2.0, 0.25), (1.0986123, 1.0, 0.75), (1.0986123, 0.5, 0.8660254),
    (-40.0, 1.0, 0.0), (40.0, 2.0, 1.0), (-3.0, 0.0, 1.0),
])  # fmt: skip
def test_weights_by_hand(score, gamma, weight):
    found = score_weight(torch.tensor([score]), gamma)
    assert float(found) == pytest.approx(weight, abs=1e-6)


def test_switches_of_the_score_guidance():
    noise = torch.tensor([[[[2.0, -2.0]]], [[[2.0, -2.0]]]], requires_grad=True)
    drawn = Draw(torch.tensor([100, 0]), torch.zeros(2, 1, 1, 2), torch.tensor([False, True]))

    def weight(**switches) -> Tensor:
        return GuidedLoss({**PAPER, **switches}).weight(noise, drawn)

    published = weight()
    assert torch.allclose(published[0], torch.sigmoid(noise[0]))
    assert (published[1] == 0.5).all()  # no noise, nothing scored
    published.sum().backward()
    assert (noise.grad[0] > 0).all() and not noise.grad[1].any()
    detached = weight(detach_score=True)
    assert torch.equal(detached, published) and not detached.requires_grad
    off = weight(sdg=False)
    assert (off == 1).all() and not off.requires_grad


def test_the_network_can_lower_the_published_loss_by_its_score_alone():
    """The similarity's gradient reaches the noise past the fields, unless it is detached."""
    model, pair = small(2), pair_of((16, 16))
    last = model.score.last.convolution.bias
    model.registration.heads.full.requires_grad_(False)
    with torch.no_grad():  # the only other way from the noise to the loss
        model.registration.heads.full.layer.convolution.weight.zero_()
    gradients = []
    for detach in (False, True):
        terms = GuidedLoss({**PAPER, "detach_score": detach})(model, pair, context()).terms
        (found,) = torch.autograd.grad(terms["similarity"], last, allow_unused=True)
        gradients.append(0.0 if found is None else float(found.sum()))
    assert gradients[0] < 0 == gradients[1]


def test_smoothness_in_millimetres_lets_thick_slices_move_apart():
    u = torch.zeros(1, 3, 2, 2, 2)
    u[:, 1, 1] = 1.0  # the second slice is a voxel further along y
    sample = Sample(torch.zeros(1, 1, 2, 2, 2), (6.0, 2.0, 2.0))
    voxels, mm = (GuidedLoss({**PAPER, "units": units}) for units in ("voxels", "mm"))
    pair = Pair(sample, sample)
    assert float(voxels.roughness(u, pair)) == pytest.approx(1 / 9)
    assert float(mm.roughness(u, pair)) == pytest.approx((2 / 6) ** 2 / 9)


@pytest.mark.parametrize("wrong", [{"similarity": "mi"}, {"units": "cm"}])
def test_a_wrong_word_is_a_usage_error(wrong):
    with pytest.raises(UsageError):
        GuidedLoss({**PAPER, **wrong})


def test_clean_examples_are_what_registration_sees():
    settings = {
        **FSDIFFREG["acdc-2d"]["training"],
        "clean": 1.0,
        "second_look": 0.0,
        "teacher": 0.0,
    }
    model, pair = small(2), pair_of((16, 24))
    with torch.no_grad():
        output = GuidedLoss(settings)(model, pair, context())
        u = model(pair, FSDiffRegOptions(), context()).displacement
    assert output.terms["noise"] == 0
    assert torch.allclose(output.prediction.displacement, u, atol=1e-5)
    warped = warp(pair.moving.image, u, padding="zeros")
    difference = float((warped - pair.fixed.image).square().mean())
    assert float(output.terms["similarity"]) == pytest.approx(200 * 0.5 * difference, rel=1e-4)


def test_a_teacher_draws_the_field_to_instance_optimisation():
    """A network that already answers as the teacher does has next to nothing to learn from it."""
    from regtool.engine.optimisation.teacher import taught, teacher_distance

    pair = discs()
    u = taught(pair, context())
    other = torch.zeros_like(u)
    other[:, 0] = u.square().sum(1).sqrt() + 1
    assert u.abs().max() > 1
    assert float(teacher_distance(u, pair, context())) == pytest.approx(0.1, abs=1e-3)
    far = (other - u).square().sum(1).add(0.01).sqrt().mean()
    assert float(teacher_distance(other, pair, context())) == pytest.approx(float(far), rel=1e-3)
    model = small(2, flow_init=1e-5)
    with torch.no_grad():
        terms = GuidedLoss({**PAPER, "teacher": 3.0})(model, pair, context()).terms
    still = u.square().sum(1).add(0.01).sqrt().mean()
    assert float(terms["teacher"]) == pytest.approx(3 * float(still), rel=0.02)


def test_a_second_look_trains_on_what_was_warped():
    model, pair = small(2), pair_of((16, 24))
    with torch.no_grad():
        u = model.look(pair.moving.image, pair.fixed.image).displacement
        warped = warp(pair.moving.image, u, padding="zeros")
        settings = {**PAPER, "clean": 1.0, "second_look": 1.0}
        found = GuidedLoss(settings)(model, pair, context()).prediction.displacement
        wanted = model.look(warped, pair.fixed.image).displacement
    assert torch.allclose(found, wanted, atol=1e-5)


# -- presets and training ----------------------------------------------------------------------


def test_the_paper_presets_have_the_papers_settings():
    for name in ("paper", "paper-slices"):
        training, network = FSDIFFREG[name]["training"], FSDIFFREG[name]["network"]
        assert (training["lambda_similarity"], training["lambda_smoothness"]) == (20.0, 20.0)
        assert (training["lr"], training["steps"], training["batch"]) == (2e-4, 63_000, 1)
        assert (training["similarity"], training["gamma"], training["units"]) == (
            "ncc", 1.0, "voxels",
        )  # fmt: skip
        assert training["sdg"] and not training["detach_score"] and training["ema"] is None
        assert not any(training[key] for key in ("clean", "second_look", "teacher"))
        assert network["fdg"] and network["flow_init"] is None and network["integrate"] == 0
    assert next(iter(FSDIFFREG)) == "paper"
    (stage,) = recipe(FSDIFFREG["paper"])
    (optimiser,) = stage.optimisers
    assert (optimiser.kind, optimiser.lr, optimiser.arguments) == (
        "Adam", 2e-4, {"betas": (0.5, 0.999)},
    )  # fmt: skip
    assert optimiser.schedule.kind == "constant" and optimiser.clip_norm is None


def test_the_slices_stage_learns_from_slices_with_its_own_settings():
    flat, solid = recipe(FSDIFFREG["acdc-3d"])
    assert (flat.name, solid.name) == ("slices", "registration")
    assert not flat.registers and solid.registers
    assert (flat.steps, flat.optimisers[0].lr) == (1_000, 5e-4)
    assert flat.optimisers[0].clip_norm == solid.optimisers[0].clip_norm == 1.0
    module = flat.build(FSDIFFREG["acdc-3d"], {})
    assert count(module) == 466_759
    output = flat.step(module, pair_of((5, 16, 16)), context())
    assert output.prediction is None and torch.isfinite(torch.stack([*output.terms.values()])).all()


def test_overfits_one_pair():
    torch.manual_seed(0)
    preset = dict(FSDIFFREG["acdc-2d"])
    preset["network"] = {**preset["network"], "score": NATIVE}
    preset["training"] = {**preset["training"], "teacher": 0.0}
    (stage,) = recipe(preset)
    module, pair = stage.build(preset, {}), discs()

    def overlap() -> float:
        with torch.no_grad():
            u = module(pair, FSDiffRegOptions(), context()).displacement
        disc, fixed = warp(pair.moving.labels.float(), u, mode="nearest"), pair.fixed.labels
        return float(2 * (disc * fixed).sum() / (disc.sum() + fixed.sum()))

    optimiser, running = torch.optim.Adam(module.parameters(), lr=2e-3), context()
    for _ in range(100):
        loss = sum(stage.step(module, pair, running).terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(2 * 0.4**2 / (0.4**2 + 0.65**2)) < 0.6  # where it began
    assert overlap() > 0.9
