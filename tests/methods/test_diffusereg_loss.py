"""DiffuseReg: what the network is asked, the loss by hand, presets, what a pair teaches."""

from __future__ import annotations

import math

import pytest
import torch
from diffusereg_cases import PAPER, SHAPE, TINY, context, pair_of, tiny
from torch import Tensor

from regtool.api import Pair, UsageError
from regtool.diffusion.schedule import SR3, add_noise
from regtool.losses.smoothness import diffusion
from regtool.losses.ssim import ssim_map
from regtool.spatial.warp import warp
from regtool_diffusereg.loss import DenoisingLoss, spoilt
from regtool_diffusereg.model import DiffuseReg, build
from regtool_diffusereg.options import DiffuseRegOptions
from regtool_diffusereg.presets import DIFFUSEREG
from regtool_diffusereg.recipe import recipe

# -- the loss ----------------------------------------------------------------------------------


def by_hand(model: DiffuseReg, pair: Pair, settings: dict) -> dict[str, float]:
    """The terms of the paper, example by example, from the same draws."""
    loss, random = DenoisingLoss(settings), context().generator
    count, shape = len(pair.fixed.image), pair.fixed.image.shape[2:]
    t = loss.steps(count, random)
    clean = (pair.field - model.mean[:, None, None, None]) / model.std[:, None, None, None]
    noise = torch.randn(clean.shape, generator=random)
    level = SR3.levels[t].float().reshape(-1, 1, 1, 1, 1)
    state = level.sqrt() * clean + (1 - level).sqrt() * noise
    predicted = model.denoiser(state, t, model.see(pair))
    estimate = (state - (1 - level).sqrt() * predicted) / level.sqrt()
    if settings["clamp"]:
        estimate = estimate.clamp(-settings["clamp"], settings["clamp"])
    u = estimate * model.std[:, None, None, None] + model.mean[:, None, None, None]
    similarity = roughness = 0.0
    for n in range(count):
        weight = float(level[n]) if settings["weighting"] == "abar" else 1.0
        weight *= settings["skip_above"] is None or int(t[n]) <= settings["skip_above"]
        warped = warp(2 * pair.moving.image[n : n + 1] - 1, u[n : n + 1], padding="zeros")
        ssim = ssim_map(2 * pair.fixed.image[n : n + 1] - 1, warped).mean()
        similarity += weight * float(1 - ssim) / count
        steps = [torch.diff(u[n], dim=axis).square().mean() for axis in (1, 2, 3)]
        roughness += weight * float(sum(steps)) / 3 / count
    assert shape == u.shape[2:]
    return {
        "noise": float((predicted - noise).square().mean()),
        "similarity": similarity,
        "smoothness": 0.1 * roughness,
    }


@pytest.mark.parametrize("safeguards", [
    {}, {"clamp": 6.0}, {"weighting": "abar"}, {"skip_above": 1000},
    {"clamp": 2.0, "weighting": "abar", "skip_above": 1990},
])  # fmt: skip
def test_the_loss_is_the_papers(safeguards):
    model, pair = tiny(), pair_of()
    settings = {**PAPER, **safeguards}
    with torch.no_grad():
        output = DenoisingLoss(settings)(model, pair, context())
        wanted = by_hand(model, pair, settings)
    found = {name: float(term) for name, term in output.terms.items()}
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_auxiliary_losses_can_be_left_out():
    model, pair = tiny(), pair_of()
    alone = {**PAPER, "lambda_similarity": 0.0, "lambda_smoothness": 0.0}
    with torch.no_grad():
        whole = DenoisingLoss(PAPER)(model, pair, context()).terms
        terms = DenoisingLoss(alone)(model, pair, context()).terms
    assert set(whole) == {"noise", "similarity", "smoothness"} and set(terms) == {"noise"}
    assert torch.equal(terms["noise"], whole["noise"])


def test_without_phi0_the_clean_field_is_zero():
    model, pair = tiny(), pair_of()
    still = Pair(pair.fixed, pair.moving, torch.zeros_like(pair.field))
    bare = Pair(pair.fixed, pair.moving)
    with torch.no_grad():
        one, other = (DenoisingLoss(PAPER)(model, p, context()).terms for p in (still, bare))
    assert all(torch.equal(one[name], other[name]) for name in one)
    (stage,) = recipe({**DIFFUSEREG["paper"], "training": {**PAPER, "fields": None}})
    assert stage.needs == ()
    assert recipe(DIFFUSEREG["paper"])[0].needs == ("fields",)


def test_the_error_of_the_clean_field_is_in_sd():
    model, pair = tiny("residual"), pair_of()
    with torch.no_grad():
        output = DenoisingLoss({**PAPER, "lambda_clean": 3.0})(model, pair, context())
    apart = (output.prediction.displacement - pair.field) / model.std[:, None, None, None]
    wanted = 3 * float(apart.square().mean())
    assert float(output.terms["clean"]) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("predicts", "amplified"), [("noise", True), ("residual", False)])
def test_the_last_step_amplifies_errors_of_the_noise_151_times(predicts, amplified):
    """What the safeguards are for: the estimate of an untrained network at the noisiest level."""
    model, pair, t = tiny(predicts), pair_of(), torch.tensor([1999])
    with torch.no_grad():
        drawn = torch.randn(2, 3, *SHAPE)
        found = model.estimate(drawn, t, model.see(pair), model.grid(SHAPE)).clean
        settings = {**PAPER, "focus": 1.0, "high": 1999, "clamp": 3.0}
        shown = DenoisingLoss(settings)(model, pair, context()).prediction.displacement
    assert (found.abs().max() > 50) == amplified
    assert 1 / SR3.level(1999) ** 0.5 == pytest.approx(151, abs=0.5)
    bound = 3.0 * model.std + model.mean.abs()
    assert (shown.abs().amax((0, 2, 3, 4)) <= bound + 1e-4).all()


def test_steps_are_uniform_or_partly_where_only_the_images_help():
    random = torch.Generator().manual_seed(0)
    plain = DenoisingLoss(PAPER).steps(20_000, random)
    focused = DenoisingLoss({**PAPER, "focus": 0.5, "high": 1500}).steps(20_000, random)
    assert plain.dtype == torch.int64 and int(plain.min()) >= 0 and int(plain.max()) <= 1999
    shares = torch.histc(plain.float(), 4, 0, 2000) / 20_000
    assert torch.allclose(shares, torch.full((4,), 0.25), atol=0.015)
    assert float((focused >= 1500).float().mean()) == pytest.approx(0.5 + 0.5 * 0.25, abs=0.015)


def test_spoilt_fields_are_parts_of_the_clean_one_with_smooth_errors():
    clean = 5 * torch.ones(400, 3, 4, 4, 4)
    begun, perfect = spoilt(clean, 0.25, torch.Generator().manual_seed(0))
    share = float(1 - perfect.mean())
    assert share == pytest.approx(0.25, abs=0.05)
    assert torch.equal(begun[perfect > 0], clean[perfect > 0])
    parts = begun[perfect == 0].mean((1, 2, 3, 4)) / 5
    assert -0.2 < float(parts.min()) < 0.1 and 0.9 < float(parts.max()) < 1.2


def test_a_spoilt_state_has_the_clean_field_for_its_goal_and_no_noise_error():
    model, pair = tiny("residual", zero_output=True), pair_of()
    settings = {**PAPER, "lambda_clean": 1.0, "imperfect": 1.0}
    with torch.no_grad():
        terms = DenoisingLoss(settings)(model, pair, context()).terms
        random = context().generator
        t = DenoisingLoss(settings).steps(2, random).clamp(min=300)
        clean = model.grid(SHAPE).normalised(pair.field)
        noise = torch.randn(clean.shape, generator=random)
        begun, _ = spoilt(clean, 1.0, random)
        # The network answers zero: the estimate is the guess.
        found = model.prior.guess(add_noise(SR3, begun, noise, t), SR3.levels[t])
    assert terms["noise"] == 0
    assert float(terms["clean"]) == pytest.approx(float((found - clean).square().mean()), rel=1e-4)


def test_smoothness_in_millimetres():
    model, pair = tiny(), pair_of()
    with torch.no_grad():
        output = DenoisingLoss({**PAPER, "units": "mm"})(model, pair, context())
    wanted = 0.1 * diffusion(output.prediction.displacement, (6.0, 2.0, 2.0))
    assert float(output.terms["smoothness"]) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("wrong", [{"units": "cm"}, {"weighting": "t"}, {"padding": "mirror"}])
def test_a_wrong_word_is_a_usage_error(wrong):
    with pytest.raises(UsageError):
        DenoisingLoss({**PAPER, **wrong})


# -- presets and training ----------------------------------------------------------------------


def test_the_paper_preset_has_the_papers_settings():
    preset = DIFFUSEREG["paper"]
    network, training = preset["network"], preset["training"]
    assert next(iter(DIFFUSEREG)) == "paper"
    assert (network["width"], network["predicts"], network["scale"]) == (120, "noise", (1, 1, 1))
    assert network["time_in_blocks"] and network["mask"]
    off = ("streams", "images", "guess", "zero_output", "legacy_merging", "checkpointing")
    assert not any(network[name] for name in off)
    assert (training["lambda_noise"], training["lambda_similarity"]) == (1.0, 1.0)
    assert training["imperfect"] == 0
    assert (training["lambda_smoothness"], training["lambda_clean"], training["focus"]) == (
        0.1,
        0,
        0,
    )
    assert (training["clamp"], training["weighting"], training["skip_above"]) == (
        None,
        "none",
        None,
    )
    assert (training["fields"], training["batch"], training["steps"]) == ("vtn", 1, 120_000)
    assert training["ema"] is None and training["directions"] == "exchanged"
    assert training["augment"] == {"flip": ("x", "y"), "transpose": 0.5}
    options = DiffuseRegOptions(**preset["options"])
    assert (options.sampler, options.steps, options.clamp) == ("ancestral", None, None)
    (stage,) = recipe(preset)
    (optimiser,) = stage.optimisers
    assert (optimiser.kind, optimiser.lr, optimiser.arguments) == (
        "AdamW", 1e-4, {"weight_decay": 1e-4},
    )  # fmt: skip
    assert (optimiser.schedule.kind, optimiser.clip_norm) == ("cosine", None)
    from regtool.engine.training.schedule import factor

    assert 1e-4 * factor(optimiser.schedule, 120_000, 120_000) == pytest.approx(1e-6)


@pytest.mark.parametrize("name", list(DIFFUSEREG))
def test_every_preset_is_complete(name):
    preset = DIFFUSEREG[name]
    model = build({**preset, "network": {**preset["network"], **TINY}})
    (stage,) = recipe(preset)
    DiffuseRegOptions(**preset.get("options", {}))
    sizes = preset["preparation"]["size"]
    assert model.denoiser.multiple <= sizes and stage.steps > 0
    assert math.prod(model.denoiser.scale) in (1, 4)


@pytest.mark.parametrize("predicts", ["noise", "residual"])
def test_overfits_one_pair(predicts):
    """The error falls by a third or more; the first estimate from noise is nearer than none."""
    torch.manual_seed(0)
    aids = {"streams": True, "images": True, "zero_output": True}
    settings = {**PAPER, "lambda_similarity": 0.0, "lambda_smoothness": 0.0}
    if predicts == "residual":
        settings |= {"lambda_clean": 1.0, "focus": 1.0, "high": 1000}
    pair = pair_of((6, 8, 8), batch=1)
    pair.field = 3 * pair.field
    model = tiny(predicts, **(aids if predicts == "residual" else {}))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = DenoisingLoss(settings)

    def total(seed: int) -> Tensor:
        return sum(loss(model, pair, context(seed)).terms.values())  # type: ignore[return-value]

    def mean() -> float:
        with torch.no_grad():
            return sum(float(total(seed)) for seed in range(10)) / 10

    before = mean()
    model.train()
    for step in range(50):
        optimiser.zero_grad()
        total(100 + step).backward()
        optimiser.step()
    assert mean() < 0.65 * before
    if predicts == "residual":
        with torch.no_grad():
            u = model.eval()(pair, DiffuseRegOptions(steps=1), context(99)).displacement
        scale = model.std[:, None, None, None]
        apart, whole = (float((x / scale).square().mean()) for x in (u - pair.field, pair.field))
        assert apart < 0.5 * whole
