"""DiffuseReg: what is diffused, the prior of smooth fields, sampling."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusereg_cases import COARSE, LENGTH, SHAPE, TINY, context, pair_of, tiny
from torch import Tensor
from torch.nn import functional

from regtool.api import Pair, Sample, UsageError
from regtool.diffusion.schedule import SR3, add_noise
from regtool.spatial.relax import cosine_transform
from regtool.spatial.warp import warp
from regtool_diffusereg.field import FieldGrid
from regtool_diffusereg.model import DiffuseReg, build, jointly_normalised
from regtool_diffusereg.options import DiffuseRegOptions
from regtool_diffusereg.presets import DIFFUSEREG
from regtool_diffusereg.prior import SmoothPrior, _precision

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
    with pytest.raises(UsageError, match="noise or residual"):
        tiny("clean")


def test_the_statistics_are_those_of_the_loaded_state():
    model, other = (
        tiny(),
        DiffuseReg(TINY, length=LENGTH, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)),
    )
    assert model.grid(SHAPE).std == (0.5, 1.0, 2.0)
    copied = copy.deepcopy(model)
    copied.load_state_dict(other.state_dict())
    assert copied.grid(SHAPE) == other.grid(SHAPE)
    assert model.grid(SHAPE).std == (0.5, 1.0, 2.0)


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
