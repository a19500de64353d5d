"""DiffuseReg: what is diffused, what the network is asked, the loss by hand, sampling, presets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from regtool.api import Context, Pair, Sample, UsageError
from regtool.diffusion.schedule import SR3, add_noise
from regtool.losses.smoothness import diffusion
from regtool.losses.ssim import ssim_map
from regtool.spatial.relax import cosine_transform
from regtool.spatial.warp import warp
from regtool_diffusereg.field import FieldGrid
from regtool_diffusereg.loss import DenoisingLoss, spoilt
from regtool_diffusereg.model import DiffuseReg, build, jointly_normalised
from regtool_diffusereg.options import DiffuseRegOptions
from regtool_diffusereg.presets import DIFFUSEREG
from regtool_diffusereg.prior import SmoothPrior, _precision
from regtool_diffusereg.recipe import recipe

TINY = {"width": 4, "heads": (1, 2, 2, 4)}
PAPER = DIFFUSEREG["paper"]["training"]
SHAPE = (8, 12, 16)
COARSE = {"scale": (1, 2, 2), "streams": True, "images": True}
LENGTH = (2.0, 3.0, 3.0)


def tiny(predicts: str = "noise", **switches) -> DiffuseReg:
    torch.manual_seed(0)
    statistics = {"mean": (0.1, -0.2, 0.3), "std": (0.5, 1.0, 2.0)}
    return DiffuseReg({**TINY, **switches}, predicts, LENGTH, **statistics).eval()  # type: ignore[arg-type]


def context(seed: int = 0) -> Context:
    return Context(torch.Generator().manual_seed(seed), torch.device("cpu"), training=True)


def smooth(*shape: int, seed: int = 1) -> Tensor:
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return functional.avg_pool3d(drawn, 5, 1, 2, count_include_pad=False)


def pair_of(shape: tuple[int, ...] = SHAPE, batch: int = 2) -> Pair:
    """Smooth random images with a smooth random field of a voxel or so."""
    moving, fixed = smooth(batch, 2, *shape).split(1, 1)
    field = 8 * (smooth(batch, 3, *shape, seed=2) - 0.5)
    spacing = (6.0, 2.0, 2.0)
    return Pair(Sample(fixed, spacing), Sample(moving, spacing), field)


# -- what is diffused --------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "multiple", "cell", "size"), [
    ((8, 12, 16), (2, 2, 2), (1, 1, 1), (8, 12, 16)),
    ((7, 9, 11), (2, 2, 2), (1, 1, 1), (8, 10, 12)),
    ((16, 24, 32), (2, 4, 4), (1, 2, 2), (16, 12, 16)),
    ((5, 23, 30), (2, 4, 4), (1, 2, 2), (6, 12, 16)),
])  # fmt: skip
def test_fields_come_back_from_the_denoisers_grid(shape, multiple, cell, size):
    grid = FieldGrid((0.1, -0.2, 0.3), (0.5, 1.0, 2.0), shape, multiple, cell)
    assert grid.size == size and grid.pitch == tuple(map(float, cell))
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    u = torch.stack([axes[1] + 3, -2 * axes[0] + axes[2], axes[2] * 4])[None]
    z = grid.normalised(u)
    assert z.shape == (1, 3, *size) and z.dtype == torch.float32
    exact = cell == (1, 1, 1)
    assert torch.allclose(grid.voxels(z), u, atol=1e-5 if exact else 0.35)
    if shape == SHAPE:
        assert torch.allclose(z[:, 2], (u[:, 2] - 0.3) / 2, atol=1e-6)


def test_the_pair_is_normalised_jointly():
    moving, fixed = torch.rand(2, 2, 1, 4, 5, 6)
    m, f = jointly_normalised(moving, fixed)
    for n in range(2):
        both = torch.cat([moving[n].flatten(), fixed[n].flatten()])
        assert torch.allclose(m[n], (moving[n] - both.mean()) / both.std(), atol=1e-5)
        assert torch.allclose(f[n], (fixed[n] - both.mean()) / both.std(), atol=1e-5)
    flat, _ = jointly_normalised(torch.full((1, 1, 2, 2, 2), 0.5), torch.full((1, 1, 2, 2, 2), 0.5))
    assert not flat.any()


@pytest.mark.parametrize("predicts", ["noise", "residual"])
def test_noise_and_clean_field_belong_to_the_state(predicts):
    """signal * clean + spread * noise is the state, whatever the network answers."""
    model, pair = tiny(predicts), pair_of()
    state, t = torch.randn(2, 3, *SHAPE), torch.tensor([30, 1700])
    with torch.no_grad():
        found = model.estimate(state, t, model.see(pair), model.grid(SHAPE))
        answer = model.denoiser(state, t, model.see(pair))
    levels = SR3.levels[t]
    level = levels.float().reshape(-1, 1, 1, 1, 1)
    again = level.sqrt() * found.clean + (1 - level).sqrt() * found.noise
    assert torch.allclose(again, state, atol=1e-4)
    if predicts == "noise":
        assert torch.equal(found.noise, answer)
    else:
        spread = model.prior.spread(SHAPE, levels).reshape(-1, 1, 1, 1, 1)
        wanted = model.prior.guess(state, levels) + spread * answer
        assert torch.allclose(found.clean, wanted, atol=1e-4)
    with pytest.raises(ValueError, match="noise or residual"):
        tiny("clean")


def dense(prior: SmoothPrior, n: int) -> Tensor:
    """The prior's covariance on a line of ``n`` voxels, from differences instead of waves."""
    laplacian = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n - 1):
        step = torch.zeros(n, dtype=torch.float64)
        step[i], step[i + 1] = 1.0, -1.0
        laplacian += torch.outer(step, step)
    rough = torch.eye(n, dtype=torch.float64) + prior.length[0] ** 2 * laplacian
    covariance = torch.linalg.inv(rough @ rough)
    return covariance * n / covariance.trace()


@pytest.mark.parametrize("level", [0.97, 0.3, 1e-3])
def test_the_prior_is_bayes_rule(level):
    """Mean and spread of a Gaussian given its noisy sum, by matrices."""
    prior, n = SmoothPrior((2.5,)), 11
    covariance, levels = dense(prior, n), torch.tensor([level], dtype=torch.float64)
    state = torch.randn(1, 2, n, generator=torch.Generator().manual_seed(0))
    noisy = level * covariance + (1 - level) * torch.eye(n, dtype=torch.float64)
    gain = level**0.5 * covariance @ torch.linalg.inv(noisy)
    assert torch.allclose(prior.guess(state, levels).double(), state.double() @ gain.T, atol=1e-5)
    left = covariance - level**0.5 * gain @ covariance
    wanted = (left.trace() / n).sqrt()
    assert float(prior.spread((n,), levels)) == pytest.approx(float(wanted), rel=1e-4)


def test_the_spread_is_what_the_guess_is_wrong_by():
    """For fields of the prior itself, at each step of a few."""
    shape, prior = (12, 20, 24), SmoothPrior((2.0, 3.0, 3.0))
    random = torch.Generator().manual_seed(0)
    precision = _precision(shape, prior.length, torch.device("cpu"))
    waves = torch.randn(1, 40, *shape, generator=random) / precision.sqrt()
    clean = cosine_transform(waves, inverse=True)
    assert float(clean.std()) == pytest.approx(1.0, abs=0.05)
    for t in (0, 400, 1200, 1999):
        when = torch.tensor([t])
        noise = torch.randn(clean.shape, generator=random)
        guess = prior.guess(add_noise(SR3, clean, noise, when), SR3.levels[when])
        found = float((guess - clean).square().mean().sqrt())
        assert found == pytest.approx(float(prior.spread(shape, SR3.levels[when])), rel=0.05)


def test_the_network_may_see_the_moving_image_as_the_guess_warps_it():
    """At level 0 the state is the field, so what is shown is nearly the warped image."""
    model, pair = tiny("residual", **COARSE, guess=True), pair_of((8, 16, 24))
    shown: list[Tensor] = []
    model.denoiser.register_forward_pre_hook(lambda module, given: shown.append(given[4]))
    grid = model.grid((8, 16, 24))
    wide = functional.avg_pool3d(functional.pad(pair.field, [6] * 6, mode="replicate"), 13, 1)
    clean, t = grid.normalised(wide), torch.tensor([0])
    with torch.no_grad():
        seen = model.see(pair)
        both = model.estimate(add_noise(SR3, clean, torch.zeros_like(clean), t), t, seen, grid)
        moving, _ = jointly_normalised(pair.moving.image, pair.fixed.image)
    apart = [(x - warp(moving, wide)).square().mean() for x in (shown[0], moving)]
    assert apart[0] < 0.05 * apart[1]
    alone = Pair(*(Sample(s.image[:1], s.spacing) for s in (pair.fixed, pair.moving)))
    with torch.no_grad():
        one = model.estimate(clean[:1], t, model.see(alone), grid).clean
        two = model.estimate(clean, t, seen, grid).clean
    assert torch.allclose(one[0], two[0], atol=1e-4) and torch.isfinite(both.clean).all()


def test_statistics_come_from_the_preset_the_data_or_the_weights():
    network = {**DIFFUSEREG["paper"]["network"], **TINY}
    data = {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 0.0]}
    fixed = build({"ndim": 3, "network": network, "fields": data})
    assert torch.allclose(fixed.mean, torch.tensor([0.0014, -0.0758, -0.1493]))
    assert torch.allclose(fixed.std, torch.tensor([0.4636, 1.1375, 1.2221]))
    free = {**network, "statistics": None}
    found = build({"ndim": 3, "network": free, "fields": data})
    assert found.mean.tolist() == data["mean"]
    assert found.std.tolist() == pytest.approx([4.0, 5.0, 1e-3])  # no division by zero
    other = build({"ndim": 3, "network": free})
    other.load_state_dict(found.state_dict())
    assert torch.equal(other.std, found.std) and other.grid(SHAPE).mean == (1.0, 2.0, 3.0)


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


# -- sampling ----------------------------------------------------------------------------------


def test_the_last_preview_is_the_answer_and_shapes_fit():
    model, pair = tiny("residual", **COARSE), pair_of((7, 18, 24))
    options = DiffuseRegOptions(steps=4, previews=1)
    with torch.no_grad():
        answer = model(pair, options, context())
    frames = answer.extras["Previews"].tensor
    assert frames.shape == (2, 4, 3, 7, 18, 24)
    assert torch.equal(frames[:, -1], answer.displacement)


def test_a_start_of_no_noise_answers_as_the_start():
    """At level 0 the state is the clean field but for its noise of 0.001 SD."""
    model, pair = tiny("residual", zero_output=True), pair_of()
    options = DiffuseRegOptions(steps=2000, warm="a field", warm_level=0)
    with torch.no_grad():
        answer = model(pair, options, context())
    assert torch.allclose(answer.displacement, pair.field, atol=0.02)


def test_the_seed_decides_the_sample():
    model, pair = tiny("residual"), pair_of()
    with torch.no_grad():
        fields = [
            model(pair, DiffuseRegOptions(steps=3), context(seed)).displacement
            for seed in (1, 1, 2)
        ]
    assert torch.equal(fields[0], fields[1]) and not torch.allclose(fields[0], fields[2])


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
    assert training["ema"] is None and not training["both_directions"]
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
