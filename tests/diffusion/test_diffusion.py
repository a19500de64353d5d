"""Schedules and steps: the published levels, and agreement with diffusers' own samplers."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from regtool.api.diffusion import (
    NoiseSchedule,
    add_noise,
    ddim_inversion,
    ddim_step,
    ddpm_step,
    predicted_clean,
    respaced,
    respaced_step,
)


@pytest.fixture(scope="module")
def latent():
    return NoiseSchedule("scaled_linear", 0.0015, 0.0195, 1000)


def test_levels_of_the_latent_schedule(latent):
    assert latent.level(1) == pytest.approx(0.99699, abs=5e-6)
    assert latent.level(999) == pytest.approx(1.4e-4, rel=0.02)
    assert latent.level(1) ** 0.5 == pytest.approx(0.9985, abs=5e-5)
    assert (1 - latent.level(1)) ** 0.5 == pytest.approx(0.055, abs=5e-4)


@pytest.mark.parametrize(("t", "level"), [(0, 1.0), (100, 0.975), (500, 0.534), (1000, 0.0814),
                                          (1999, 4.4e-5)])  # fmt: skip
def test_levels_of_the_image_schedule(t, level):
    schedule = NoiseSchedule("linear", 1e-6, 1e-2, 2000)
    assert schedule.level(t) == pytest.approx(level, rel=0.02)


def test_levels_are_those_of_diffusers():
    names = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
    for kind, name in names.items():
        other = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule=name)
        own = NoiseSchedule(kind)
        assert torch.allclose(own.levels.float(), other.alphas_cumprod, rtol=1e-3, atol=1e-9)
        assert torch.allclose(
            own.scheduler.alphas_cumprod, other.alphas_cumprod, rtol=1e-3, atol=1e-9
        )
    x, e = torch.rand(2, 3, 1, 4, 4).unbind(0)
    t = torch.tensor([0, 17, 999])
    assert torch.allclose(add_noise(own, x, e, t), own.scheduler.add_noise(x, e, t), atol=1e-5)


def test_levels_go_to_a_device_once_and_serve_training_after_inference():
    schedule, cpu = NoiseSchedule("linear", 1e-6, 1e-2, 2000), torch.device("cpu")
    clean = torch.rand(2, 1, 4, 4, requires_grad=True)
    with torch.inference_mode():
        first = schedule.levels_on(cpu)
    assert schedule.levels_on(cpu) is first and torch.equal(first, schedule.levels)
    add_noise(schedule, clean, torch.rand(2, 1, 4, 4), torch.tensor([3, 7])).sum().backward()
    assert torch.allclose(clean.grad[:, 0, 0, 0].double(), first[[3, 7]].sqrt())


def test_nothing_is_clipped(latent):
    assert not latent.scheduler.config.clip_sample
    clean = torch.full((1, 1, 4, 4), 7.0)
    noise = torch.zeros_like(clean)
    back = ddpm_step(latent, add_noise(latent, clean, noise, 0), noise, 0)
    assert torch.allclose(back, clean, rtol=1e-4)


def test_noise_is_added_at_the_level_of_each_sample_in_float32(latent):
    clean, noise = torch.randn(2, 2, 1, 4, 4).unbind(0)
    found = add_noise(latent, clean.bfloat16(), noise.bfloat16(), torch.tensor([1, 600]))
    assert found.dtype == torch.float32
    for k, t in enumerate((1, 600)):
        one = add_noise(latent, clean.bfloat16(), noise.bfloat16(), t)
        assert torch.equal(one[k], found[k])
    assert torch.allclose(
        predicted_clean(latent, add_noise(latent, clean, noise, 600), noise, 600), clean, atol=1e-4
    )


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_agrees_with_diffusers(latent, eta):
    other = DDIMScheduler.from_config(
        latent.scheduler.config, timestep_spacing="leading", steps_offset=0
    )
    other.set_timesteps(50)
    x, e = torch.randn(2, 2, 1, 8, 8).unbind(0)
    found = ddim_step(latent, x, e, 600, 580, eta, torch.Generator().manual_seed(1))
    wanted = other.step(e, 600, x, eta=eta, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(found, wanted.prev_sample, atol=1e-5)


def test_ddim_with_eta_1_and_single_steps_is_ddpm(latent):
    x, e = torch.randn(2, 2, 1, 8, 8).unbind(0)
    for t in (999, 400, 1):
        one = ddim_step(latent, x, e, t, t - 1, 1.0, torch.Generator().manual_seed(2))
        other = ddpm_step(latent, x, e, t, torch.Generator().manual_seed(2))
        assert torch.allclose(one, other, atol=2e-4)


def test_ddim_inversion_is_undone_by_ddim(latent):
    """With a network whose noise depends on the level only, there and back is exact."""
    pattern = torch.randn(1, 1, 8, 8)

    def predict(sample: torch.Tensor, t: int) -> torch.Tensor:
        return pattern

    clean = torch.randn(1, 1, 8, 8)
    x = ddim_inversion(latent, predict, clean, 5)
    assert torch.allclose(x, add_noise(latent, clean, pattern, 5), atol=1e-4)
    for t in range(5, -1, -1):
        x = ddim_step(latent, x, predict(x, t), t, t - 1)
    assert torch.allclose(x, clean, atol=1e-4)


def test_respaced_levels_are_evenly_spaced_down_to_the_clean_sample():
    assert respaced(200, 200) == [(t, t - 1) for t in range(199, -1, -1)]
    assert respaced(5, 99) == respaced(5, 5)
    short = respaced(200, 80)
    assert len(short) == 80 and (short[0][0], short[-1]) == (199, (0, -1))
    assert all(one[1] == other[0] for one, other in itertools.pairwise(short))
    strides = {here - there for here, there in short[:-1]}
    assert strides == {2, 3}
    assert respaced(7, 1) == [(6, -1)]
    for start, steps in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            respaced(start, steps)


def test_a_respaced_step_of_one_level_is_ddpms_own():
    schedule = NoiseSchedule("linear", 1e-6, 1e-2, 2000)
    x, e = torch.randn(2, 2, 1, 8, 8).unbind(0)
    for t in (1500, 200, 1):
        fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        one = respaced_step(schedule, x, e, t, t - 1, fresh)
        other = ddpm_step(schedule, x, e, t, torch.Generator().manual_seed(2))
        assert torch.allclose(one, other, atol=2e-4)


@pytest.mark.parametrize(("t", "to"), [(199, 150), (80, 3)])
def test_respaced_steps_leave_the_right_share_of_noise(t, to):
    """With the exact noise of known samples, the next state is as if noised to that level."""
    schedule = NoiseSchedule("linear", 1e-6, 1e-2, 2000)
    clean = torch.full((1, 1, 200, 200), 0.3)
    noise, fresh = torch.randn(2, 1, 1, 200, 200).unbind(0)
    state = add_noise(schedule, clean, noise, t)
    found = respaced_step(schedule, state, noise, t, to, fresh)
    level = schedule.level(to)
    assert float(found.mean()) == pytest.approx(level**0.5 * 0.3, abs=0.01)
    assert float(found.std()) == pytest.approx((1 - level) ** 0.5, rel=0.02)


def test_the_last_step_gives_the_clean_estimate_within_its_bound():
    schedule = NoiseSchedule("linear", 1e-6, 1e-2, 2000)
    clean, noise, fresh = torch.randn(3, 1, 1, 8, 8).unbind(0)
    state = add_noise(schedule, clean, noise, 40)
    assert torch.allclose(respaced_step(schedule, state, noise, 40, -1, fresh), clean, atol=1e-4)
    bounded = respaced_step(schedule, state, noise, 40, -1, fresh, bound=0.5)
    assert torch.allclose(bounded, clean.clamp(-0.5, 0.5), atol=1e-4)
