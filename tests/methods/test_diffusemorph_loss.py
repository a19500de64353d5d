"""DiffuseMorph's schedule and losses: the papers' numbers, and that they train it."""

from __future__ import annotations

import pytest
import torch
from diffusemorph_cases import blobs, context, small

from regtool.api import Pair, Sample
from regtool.api.train import roughness
from regtool.spatial.warp import warp
from regtool_diffusemorph.images import prepared
from regtool_diffusemorph.loss import LOW, JointLoss
from regtool_diffusemorph.model import SCHEDULE, build
from regtool_diffusemorph.options import DiffuseMorphOptions
from regtool_diffusemorph.presets import DIFFUSEMORPH
from regtool_diffusemorph.recipe import recipe


@pytest.mark.parametrize(
    ("t", "level"),
    [(0, 1.0), (100, 0.975), (200, 0.904), (500, 0.534), (1000, 0.0814), (1999, 4.4e-5)],
)
def test_levels_of_the_schedule(t, level):
    assert SCHEDULE.steps == 2000
    assert SCHEDULE.level(t) == pytest.approx(level, rel=0.02)


def test_the_paper_presets_have_the_papers_settings():
    wanted = {"paper": (20.0, 2e-4, 72_000), "paper-brain": (10.0, 1e-4, 61_620),
              "paper-face": (2.0, 5e-6, 50_880), "paper-slices": (20.0, 2e-4, 72_000)}  # fmt: skip
    for name, values in wanted.items():
        training = DIFFUSEMORPH[name]["training"]
        assert (training["lambda"], training["lr"], training["steps"]) == values
        assert (training["similarity"], training["smoothness"]) == ("ncc", 1.0)
        assert (training["batch"], training["ema"]) == (1, None)
        assert not any(
            training[key] for key in ("clean", "focus", "second_look", "still", "teacher")
        )
        assert training["units"] == "voxels" and training["clip"] is None
        assert DIFFUSEMORPH[name]["network"]["integrate"] == 0
    assert next(iter(DIFFUSEMORPH)) == "paper"


def test_the_loss_is_the_papers():
    """Noise error + lambda (similarity + smoothness) at the drawn steps, by hand."""
    from regtool.losses.ncc import local_ncc
    from regtool.losses.smoothness import diffusion

    model, pair = small(2), blobs()
    loss = JointLoss(DIFFUSEMORPH["paper"]["training"])
    with torch.no_grad():
        terms = loss(model, pair, context()).terms
    (m, f), _ = prepared(pair.moving.image, pair.fixed.image)
    drawn = loss.draw(f, context().generator)
    level = SCHEDULE.levels[drawn.t].float().reshape(-1, 1, 1, 1)
    state = level.sqrt() * f + (1 - level).sqrt() * drawn.noise
    with torch.no_grad():
        noise = model.score(torch.cat([m, f, state], 1), drawn.t)
        u = model.field(torch.cat([m, noise], 1))
    warped = warp(pair.moving.image, u)
    assert set(terms) == {"noise", "similarity", "smoothness"}
    error = float((noise - drawn.noise).square().mean())
    assert float(terms["noise"]) == pytest.approx(error, rel=1e-4)
    assert float(terms["similarity"]) == pytest.approx(
        20 * float(local_ncc(pair.fixed.image, warped)), rel=1e-4
    )
    assert float(terms["smoothness"]) == pytest.approx(20 * float(diffusion(u)), rel=1e-4)


def test_the_registration_teaches_the_score_network():
    model, pair = small(2), blobs()
    terms = JointLoss(DIFFUSEMORPH["paper"]["training"])(model, pair, context()).terms
    terms["similarity"].backward()
    assert model.score.stem.weight.grad.abs().max() > 0


def test_steps_are_drawn_as_the_settings_say():
    fixed, draw = torch.zeros(4000, 1, 1, 1), torch.Generator().manual_seed(0)
    published = JointLoss(DIFFUSEMORPH["paper"]["training"]).draw(fixed, draw)
    assert not published.clean.any()
    assert (published.t.min(), published.t.max()) >= (0, 1950)
    assert published.t.float().mean() == pytest.approx(999.5, rel=0.05)
    short = JointLoss(DIFFUSEMORPH["acdc-2d"]["training"]).draw(fixed, draw)
    assert short.clean.float().mean() == pytest.approx(0.5, abs=0.05)
    assert (short.t[short.clean] == 0).all()
    low = (short.t[~short.clean] < LOW).float().mean()
    assert low == pytest.approx(0.55, abs=0.05)  # half at random, and a tenth of the others


def test_clean_examples_have_no_noise_error():
    settings = {**DIFFUSEMORPH["acdc-2d"]["training"], "clean": 1.0, "second_look": 0.0,
                "teacher": 0.0}  # fmt: skip
    model, pair = small(2), blobs()
    output = JointLoss(settings)(model, pair, context())
    assert output.terms["noise"] == 0
    with torch.no_grad():
        u = model(pair, DiffuseMorphOptions(), context()).displacement
    assert torch.allclose(output.prediction.displacement, u, atol=1e-5)


def test_the_teacher_is_instance_optimisation_of_what_the_network_saw():
    from regtool.api.refine import taught

    settings = {**DIFFUSEMORPH["paper"]["training"], "teacher": 0.5, "clean": 1.0}
    model, pair = small(2), blobs()
    with torch.no_grad():
        output = JointLoss(settings)(model, pair, context())
    apart = (output.prediction.displacement - taught(pair, context())).square().sum(1)
    wanted = 20 * 0.5 * float((apart + 0.01).sqrt().mean())
    assert float(output.terms["teacher"]) == pytest.approx(wanted, rel=1e-3)


def test_smoothness_in_millimetres_lets_thick_slices_move_apart():
    loss = JointLoss({**DIFFUSEMORPH["paper"]["training"], "units": "mm"})
    plain = JointLoss(DIFFUSEMORPH["paper"]["training"])
    image = torch.zeros(1, 1, 8, 8, 8)
    thick = Pair(*(Sample(image, (8.0, 2.0, 2.0)) for _ in range(2)))
    across, within = torch.zeros(2, 1, 3, 8, 8, 8)
    across[:, 2] = torch.arange(8.0)[:, None, None]  # moves along x, more from slice to slice
    within[:, 2] = torch.arange(8.0)[:, None]  # and more from row to row
    assert roughness(across, thick, loss.units) == pytest.approx(1 / 9 / 16)
    assert roughness(within, thick, loss.units) == pytest.approx(1 / 9)
    assert roughness(across, thick, plain.units) == roughness(within, thick, plain.units)


NARROW = {
    "score": {"width": 8, "groups": 4, "attention": "full"},
    "field": {"form": "voxelmorph", "width": 1, "flow_init": 1e-5},
}
"""Half of the 2-D networks, which learn one pair as well."""


@pytest.mark.parametrize(
    ("shape", "steps", "enough"), [((32, 32), 100, 0.85), ((16, 16, 16), 60, 0.8)]
)
def test_overfits_one_pair(shape, steps, enough):
    torch.manual_seed(0)
    preset = dict(DIFFUSEMORPH[f"acdc-{len(shape)}d"])
    preset["training"] = {k: v for k, v in preset["training"].items() if k != "slices_first"}
    # One moving image could be learnt by heart; a teacher would do the work.
    preset["training"] |= {"still": 10.0, "teacher": 0.0}
    if len(shape) == 2:
        preset["network"] = {**preset["network"], **NARROW}
    (stage,) = recipe(preset)
    module, pair = stage.build(preset, {}), blobs(shape)
    # On the CPU two small volumes cost no more than one.
    seen = Pair.joined([pair, pair]) if len(shape) == 3 else pair
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    running = context()
    for _ in range(steps):
        loss = sum(stage.step(module, seen, running).terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def overlap(eta: float) -> float:
        with torch.no_grad():
            u = module(pair, DiffuseMorphOptions(eta=eta), context()).displacement
        disc, fixed = warp(pair.moving.labels.float(), u, mode="nearest"), pair.fixed.labels
        return float(2 * (disc * fixed).sum() / (disc.sum() + fixed.sum()))

    scores = [overlap(eta) for eta in (0.0, 0.5, 1.0)]
    assert scores[0] < scores[1] < scores[2]
    assert scores[2] > enough


def test_outside_the_moving_image_is_what_the_release_has_there():
    outside = {name: preset["training"]["padding"] for name, preset in DIFFUSEMORPH.items()}
    assert outside["paper"] == outside["paper-brain"] == "zeros"
    assert outside["paper-face"] == outside["acdc-3d"] == "border"
    torch.manual_seed(0)
    module, pair = build(DIFFUSEMORPH["trial"]), blobs((32, 32))
    torch.nn.init.normal_(module.field.flow.weight, 0, 3.0)

    def similarity(**given):
        training = {k: v for k, v in DIFFUSEMORPH["trial"]["training"].items() if k != "padding"}
        with torch.no_grad():
            terms = JointLoss({**training, **given})(module, pair, context()).terms
        return float(terms["similarity"])

    assert similarity() == similarity(padding="border") != similarity(padding="zeros")
