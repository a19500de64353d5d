"""Sampling with a denoiser that is exact: distributions, determinism, resuming, warm starts."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from exact import Exact

from regtool.api.diffusion import (
    SR3,
    Look,
    NoiseSchedule,
    NoiseSource,
    Sampling,
    Saved,
    Step,
    Warm,
    add_noise,
    sample,
)

SHAPE = (1, 2, 64, 64)
SHORT = NoiseSchedule("linear", 1e-4, 0.1, 200)
"""The same ends of abar as SR3 in fewer steps."""


def mean() -> torch.Tensor:
    return torch.stack([torch.full((64, 64), 1.5), torch.full((64, 64), -0.5)])[None]


def drawn(settings: Sampling, seed: int = 0, sd: float = 0.4, schedule=SR3, **more):
    return sample(Exact(mean(), sd, schedule), schedule, SHAPE, settings, NoiseSource(seed), **more)


@pytest.mark.parametrize(
    ("settings", "schedule"),
    [
        (Sampling("ancestral"), SHORT),
        (Sampling("ddim", steps=200), SHORT),
        (Sampling("ddim", steps=200, eta=1.0), SHORT),
        (Sampling("ddim", steps=100), SR3),
    ],
    ids=["ancestral", "ddim", "eta 1", "100 of 2000"],
)
def test_both_samplers_recover_the_mean_and_the_variance(settings, schedule):
    found = drawn(settings, schedule=schedule).clean
    each = found.flatten(2)
    assert torch.allclose(each.mean(2)[0], torch.tensor([1.5, -0.5]), atol=0.04)
    assert torch.allclose(each.std(2)[0], torch.full((2,), 0.4), rtol=0.08)


def test_ancestral_sampling_visits_every_level_of_the_published_schedule():
    denoiser = Exact(torch.zeros(1, 1, 4, 4), 0.5)
    done = sample(denoiser, SR3, (1, 1, 4, 4), Sampling("ancestral"), NoiseSource(1))
    assert denoiser.seen == list(range(1999, -1, -1))
    assert (done.steps, done.stopped_at, done.saved) == (2000, None, None)


def test_ddim_takes_the_steps_it_is_told_to():
    for steps in (1, 5, 10, 25, 50, 100):
        denoiser = Exact(torch.zeros(1, 1, 4, 4), 0.5)
        sample(denoiser, SR3, (1, 1, 4, 4), Sampling(steps=steps), NoiseSource(1))
        assert len(denoiser.seen) == steps and denoiser.seen[0] == 1999


def test_ddim_converges_to_what_the_equation_says():
    """Without noise each voxel keeps its quantile: mean + sd * (start, standardised)."""
    begin = NoiseSource(0).start(SHAPE)
    level = SR3.level(1999)
    spread = math.sqrt(level * 0.4**2 + 1 - level)
    wanted = mean() + 0.4 * (begin - math.sqrt(level) * mean()) / spread
    errors = [float((drawn(Sampling(steps=n)).clean - wanted).abs().mean()) for n in (10, 50, 250)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.01


def test_the_seed_decides_and_eta_zero_draws_nothing_on_the_way():
    once, again, other = (drawn(Sampling(steps=8, eta=e), s).clean
                          for e, s in ((0.0, 3), (0.0, 3), (0.0, 4)))  # fmt: skip
    assert torch.equal(once, again) and not torch.allclose(once, other)
    noisy = drawn(Sampling(steps=8, eta=0.5), 3).clean
    assert torch.equal(noisy, drawn(Sampling(steps=8, eta=0.5), 3).clean)
    assert not torch.allclose(noisy, once)


def test_noise_is_that_of_its_member_whatever_the_batch():
    alone = NoiseSource(5, (2,)).at(17, (1, 2, 4, 4))
    among = NoiseSource(5, (0, 1, 2)).at(17, (3, 2, 4, 4))
    assert torch.equal(among[2:], alone) and not torch.equal(among[0], among[1])
    shared = NoiseSource(5, (2,)).at(17, (3, 2, 4, 4))
    assert all(torch.equal(one, alone[0]) for one in shared)
    assert not torch.equal(alone, NoiseSource(5, (2,)).at(18, (1, 2, 4, 4)))
    assert abs(float(NoiseSource(0).start(SHAPE).std()) - 1) < 0.03
    with pytest.raises(ValueError, match="2 members for a batch of 3"):
        NoiseSource(5, (0, 1)).start((3, 1, 4, 4))


def stop_at(number: int):
    def observe(step: Step) -> Look | None:
        return Look(0.0, "enough") if step.number == number else None

    return observe


@pytest.mark.parametrize(
    "settings", [Sampling(steps=20), Sampling(steps=20, eta=1.0), Sampling("ancestral", steps=20)]
)
def test_a_resumed_sampling_equals_the_uninterrupted_one(settings):
    whole = drawn(settings)
    half = drawn(settings, observe=stop_at(7))
    assert (half.steps, half.reason) == (8, "enough")
    assert half.stopped_at == settings.levels(SR3)[7][0]
    assert half.saved is not None and half.saved.number == 8
    rest = sample(Exact(mean(), 0.4), SR3, half.saved, settings, NoiseSource(0))
    assert torch.equal(rest.clean, whole.clean) and rest.steps == 12


def test_a_saved_state_of_other_settings_is_refused():
    saved = Saved(torch.zeros(SHAPE), 9, 1999)
    with pytest.raises(ValueError, match="step 9 is none of the 5 steps"):
        sample(Exact(mean(), 0.4), SR3, saved, Sampling(steps=5), NoiseSource(0))
    with pytest.raises(ValueError, match="level 2000"):
        sample(Exact(mean(), 0.4), SR3, Warm(mean(), 2000), Sampling(), NoiseSource(0))


def test_a_warm_start_stays_the_nearer_to_its_field_the_lower_it_begins():
    given = mean() + 0.3 * torch.ones(SHAPE)
    apart = []
    for t in (20, 100, 400, 1500):
        denoiser = Exact(mean(), 0.4)
        done = sample(denoiser, SR3, Warm(given, t), Sampling(steps=100), NoiseSource(2))
        assert denoiser.seen[0] == t
        assert len(denoiser.seen) == max(1, round(100 * (t + 1) / 2000))
        apart.append(float((done.clean - given).mean().abs()))
    assert apart == sorted(apart)
    assert apart[0] < 0.02 and apart[-1] == pytest.approx(0.3, abs=0.03)


def test_a_warm_start_is_the_field_noised_to_its_level():
    states = []

    def watch(step: Step) -> None:
        states.append(step.state)

    sample(Exact(mean(), 0.4), SR3, Warm(mean(), 300), Sampling(), NoiseSource(2), observe=watch)
    wanted = add_noise(SR3, mean(), NoiseSource(2).start(SHAPE), 300)
    assert torch.equal(states[0], wanted)


def test_the_clean_estimate_is_clamped_and_the_state_follows_it():
    for settings in (Sampling(steps=10, clamp=1.0), Sampling("ancestral", steps=10, clamp=1.0)):
        seen: list[Step] = []
        done = drawn(settings, observe=seen.append)  # type: ignore[arg-type]
        assert max(float(s.clean.abs().max()) for s in seen) == 1.0
        assert float(done.clean.abs().max()) <= 1.0
        assert float(done.clean[:, 0].mean()) > 0.9  # its mean lies outside


def test_dynamic_bounds_are_deprecated():
    with pytest.warns(DeprecationWarning, match="dynamic.*deprecated since 0.1") as caught:
        Sampling(clamp=2.0, dynamic=0.9)
    assert [found.filename for found in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sampling("ancestral", clamp=2.0)


@pytest.mark.filterwarnings("ignore:Sampling:DeprecationWarning")
def test_dynamic_bounds_shrink_a_large_estimate_as_a_whole():
    clean = torch.linspace(-8, 8, 1001).reshape(1, 1, 1, -1)
    bounded = Sampling(clamp=2.0, dynamic=0.9).bounded(clean)
    assert float(bounded.max()) == pytest.approx(2.0)
    middle = clean.abs() < 7
    ratio = bounded[middle & (clean != 0)] / clean[middle & (clean != 0)]
    assert torch.allclose(ratio, torch.full_like(ratio, 2 / 7.2), atol=1e-3)
    small = clean / 8
    assert torch.equal(Sampling(clamp=2.0, dynamic=0.9).bounded(small), small)


def test_the_best_estimate_is_kept_and_is_the_answer_when_stopped():
    scores = {2: 0.1, 4: 0.9, 6: 0.5}

    def observe(step: Step) -> Look | None:
        score = scores.get(step.number)
        return None if score is None else Look(score, "falling" if step.number == 6 else None)

    done = drawn(Sampling(steps=10), observe=observe)
    assert done.best is not None and (done.best.number, done.best.score) == (4, 0.9)
    assert done.best.t == Sampling(steps=10).levels(SR3)[4][0]
    assert done.answer is done.best.clean and done.reason == "falling"
    whole = drawn(Sampling(steps=10), observe=lambda s: Look(-s.number))
    assert whole.stopped_at is None and whole.answer is whole.clean
    assert whole.best is not None and whole.best.number == 0


def test_a_requested_stop_is_looked_at_and_reported():
    asked = iter([False, False, True])
    seen: list[Step] = []

    def observe(step: Step) -> Look | None:
        seen.append(step)
        return Look(1.0) if step.last else None

    steps: list[tuple[int, int]] = []
    done = drawn(Sampling(steps=10), observe=observe, stop=lambda: next(asked),
                 report=lambda *a: steps.append(a))  # fmt: skip
    assert (done.reason, done.steps, done.stopped_at) == ("requested", 3, seen[2].t)
    assert [s.last for s in seen] == [False, False, True] and done.best is not None
    assert steps == [(1, 10), (2, 10), (3, 10)]


class Pull:
    """Moves the clean estimate by a constant at low levels."""

    through_network = False

    def active(self, t: int) -> bool:
        return t < 1000

    def __call__(self, step: Step) -> torch.Tensor:
        assert step.t < 1000 and not step.clean.requires_grad
        return step.clean + 0.5


class Through(Pull):
    through_network = True

    def __call__(self, step: Step) -> torch.Tensor:
        (slope,) = torch.autograd.grad(step.clean.sum(), step.state)
        level = step.level
        assert torch.allclose(
            slope, torch.full_like(slope, level**0.5 * 0.16 / (level * 0.16 + 1 - level)), rtol=1e-3
        )
        return step.clean


def test_guidance_moves_the_estimate_below_its_level_only():
    plain, guided = ([] for _ in range(2))
    with torch.no_grad():
        drawn(Sampling(steps=10), observe=lambda s: plain.append(s.clean))
        last = drawn(Sampling(steps=10), guidance=Pull(), observe=lambda s: guided.append(s.clean))
        drawn(Sampling(steps=10), guidance=Through())
    active = [t < 1000 for t, _ in Sampling(steps=10).levels(SR3)]
    first = active.index(True)
    assert all(torch.equal(a, b) for a, b in zip(plain[:first], guided[:first], strict=True))
    assert torch.allclose(guided[first], plain[first] + 0.5, atol=1e-5)
    assert float((last.clean - plain[-1]).mean()) > 0.5  # later estimates come from moved states


def test_the_best_is_none_of_the_looks_before_guidance_acts():
    """Otherwise ``stop=auto`` would answer an early look that nothing has steered."""
    counted: list[bool] = []

    def observe(step: Step) -> Look:
        counted.append(step.counts)
        return Look(-float(step.number))  # the earlier, the better

    plain = drawn(Sampling(steps=10), observe=observe)
    assert plain.best is not None and plain.best.number == 0 and all(counted)
    counted.clear()
    steered = drawn(Sampling(steps=10), guidance=Pull(), observe=observe)
    levels = [t for t, _ in Sampling(steps=10).levels(SR3)]
    assert counted == [t < 1000 for t in levels]
    assert steered.best is not None and steered.best.number == counted.index(True)
    idle = drawn(Sampling(steps=10), guidance=Idle(), observe=observe)
    assert idle.best is not None and idle.best.number == 0


class Idle(Pull):
    """A guidance whose scales are all zero."""

    def active(self, t: int) -> bool:
        return False
