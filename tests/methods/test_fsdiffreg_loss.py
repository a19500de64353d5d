"""FSDiffReg: the loss and its switches by hand, presets, and what a pair teaches."""

from __future__ import annotations

import pytest
import torch
from fsdiffreg_cases import NATIVE, PAPER, context, count, discs, pair_of, small
from torch import Tensor
from torch.nn import functional

from regtool.api import Pair, Sample, UsageError
from regtool.api.train import roughness
from regtool.diffusion.draw import Draw, draw
from regtool.diffusion.schedule import SR3
from regtool.spatial.compose import compose
from regtool.spatial.warp import warp
from regtool_fsdiffreg.loss import GuidedLoss
from regtool_fsdiffreg.model import score_weight
from regtool_fsdiffreg.options import FSDiffRegOptions
from regtool_fsdiffreg.presets import FSDIFFREG
from regtool_fsdiffreg.recipe import recipe

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
    assert float(roughness(u, pair, voxels.units)) == pytest.approx(1 / 9)
    assert float(roughness(u, pair, mm.units)) == pytest.approx((2 / 6) ** 2 / 9)


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
        left = model.look(warped, pair.fixed.image).displacement
    assert torch.allclose(found, compose(u, left), atol=1e-5)


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
