"""Sampling: from noise, or from a noised start, down to a clean sample, watched and steered.

Everything here is in the units that the denoiser knows, a field as it was normalised for training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from regtool.diffusion.noise import NoiseSource
from regtool.diffusion.schedule import NoiseSchedule, add_noise
from regtool.diffusion.steps import ddim_step, predicted_clean, respaced, respaced_step

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``denoiser(state (B, C, *S) float32, t (1,) int64) -> predicted noise (B, C, *S)``."""

DDIM_STEPS = 50

DYNAMIC = (
    "Sampling(dynamic=...) is deprecated since 0.1: no method uses it; leave it out, clamp alone "
    "bounds the estimate"
)


@dataclass(frozen=True)
class Sampling:
    """How to go down the schedule.

    ``ddim``: Song et al., ICLR 2021; ``eta`` 0 is deterministic after its start, 1 has the noise of
    ``ancestral``: Ho et al., NeurIPS 2020, with the posterior variance, respaced where ``steps`` is
    less than the schedule has (Nichol and Dhariwal, ICML 2021). ``steps`` over the whole schedule;
    None: 50 with ``ddim``, every level with ``ancestral``. A start farther down takes the share of
    them that is left.

    ``clamp`` keeps the clean estimate within so many standard deviations of the normalised field;
    errors of the noise are amplified 151 times at the first level of 2000 (METHODS 2.6).

    ``dynamic`` is deprecated since 0.1: no method uses it; leave it out. With it, a quantile such
    as 0.995, an estimate whose quantile of absolute values exceeds ``clamp`` is cut there and
    shrunk to ``clamp`` as a whole (Saharia et al., NeurIPS 2022, section 2.3).
    """

    sampler: Literal["ddim", "ancestral"] = "ddim"
    steps: int | None = None
    eta: float = 0.0
    clamp: float | None = None
    dynamic: float | None = field(default=None, metadata={"deprecated": DYNAMIC})

    def __post_init__(self) -> None:
        if self.dynamic is not None:  # at the line that called __init__, which called this
            warnings.warn(DYNAMIC, DeprecationWarning, stacklevel=3)

    def levels(self, schedule: NoiseSchedule, begin: int | None = None) -> list[tuple[int, int]]:
        """The pairs (from, to) of levels to visit, from ``begin`` or the noisiest level to -1.

        Raises ValueError for a level that the schedule does not have.
        """
        first = schedule.steps - 1 if begin is None else begin
        if not 0 <= first < schedule.steps:
            raise ValueError(f"level {first} is none of 0 to {schedule.steps - 1}")
        most = schedule.steps if self.sampler == "ancestral" else DDIM_STEPS
        steps = min(self.steps or most, schedule.steps)
        share = max(1, round(steps * (first + 1) / schedule.steps))
        return respaced(first + 1, share)

    def bounded(self, clean: Tensor) -> Tensor:
        """A clean estimate (B, C, *S) within its bounds."""
        if self.clamp is None:
            return clean
        if self.dynamic is None:
            return clean.clamp(-self.clamp, self.clamp)
        sizes = clean.abs().flatten(1).float()
        rank = max(1, round(self.dynamic * sizes.shape[1]))  # torch.quantile stops at 2**24 values
        bound = sizes.kthvalue(rank, dim=1).values.clamp(min=self.clamp)
        bound = bound.reshape(-1, *[1] * (clean.dim() - 1))
        return clean.clamp(-bound, bound) * (self.clamp / bound)


@dataclass(frozen=True)
class Warm:
    """Start from a clean field (B, C, *S), normalised, that is noised to level ``t``."""

    clean: Tensor
    t: int


@dataclass(frozen=True)
class Saved:
    """Where a sampling stands: the state at the level that step ``number`` begins with.

    ``begin`` is the level at which the sampling began. With equal settings and noise, going on from
    here gives what the uninterrupted sampling gives.
    """

    state: Tensor
    number: int
    begin: int


@dataclass(frozen=True)
class Step:
    """One step as observers and guidance see it.

    ``number`` counts from 0 to ``total - 1``; the step leads from level ``t`` to ``to``, -1 for the
    clean end. ``level`` is abar at ``t``; ``state`` (B, C, *S) the noisy field; ``clean`` the clean
    estimate, to observers after clamping and guidance. ``last``: no step follows, or a stop was
    requested. ``counts``: it may become the answer; not so where a guidance is still to begin.
    """

    number: int
    total: int
    t: int
    to: int
    level: float
    state: Tensor
    clean: Tensor
    last: bool = False
    counts: bool = True


@dataclass(frozen=True)
class Look:
    """What an observer says of a step it looked at: a score, more is better, and why to stop."""

    score: float
    stop: str | None = None


Observer = Callable[[Step], Look | None]


class Guidance(Protocol):
    """Moves the clean estimate of a step.

    ``active(t)`` says whether it acts at a level. With ``through_network`` the step's ``clean``
    depends on its ``state`` by autograd.
    """

    @property
    def through_network(self) -> bool: ...

    def active(self, t: int) -> bool: ...

    def __call__(self, step: Step) -> Tensor: ...


@dataclass(frozen=True)
class Best:
    """The clean estimate with the best score, and the level and step it was found at."""

    clean: Tensor
    score: float
    t: int
    number: int


@dataclass(frozen=True)
class Sampled:
    """The outcome: ``clean`` is the last estimate; ``best`` the one its observer liked best.

    ``stopped_at`` is the level of the last step taken where the sampling ended early, otherwise
    None; ``reason`` what the observer said, or ``"requested"``. ``saved`` goes on from there.
    """

    clean: Tensor
    best: Best | None
    steps: int
    stopped_at: int | None
    reason: str | None
    saved: Saved | None

    @property
    def answer(self) -> Tensor:
        """The best estimate of a sampling that was stopped, otherwise the last one."""
        return self.best.clean if self.stopped_at is not None and self.best else self.clean


def sample(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    start: tuple[int, ...] | Warm | Saved,
    settings: Sampling,
    source: NoiseSource,
    *,
    device: torch.device | str = "cpu",
    guidance: Guidance | None = None,
    observe: Observer | None = None,
    stop: Callable[[], bool] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Sampled:
    """Sample a clean field (B, C, *S).

    ``start``: a shape begins with pure noise; ``Warm`` with a given field, noised; ``Saved`` goes
    on where another sampling stood. All noise comes from ``source``. ``observe`` sees every step
    and decides which it looks at (the best is none of those before the guidance acts, or nobody
    would see what was asked for); ``stop`` is asked after every step (a user's Ctrl-C);
    ``report(done, total)`` moves a progress bar.

    The noise that corresponds to the clamped and guided estimate replaces the predicted one, so
    both samplers go on from the estimate that observers see.
    Raises ValueError for levels or shapes that do not fit.
    """
    state, first, begin = _begin(schedule, start, source, device)
    path = settings.levels(schedule, begin)
    if not 0 <= first < len(path):
        raise ValueError(f"step {first} is none of the {len(path)} steps of these settings")
    best: Best | None = None
    for number in range(first, len(path)):
        t, to = path[number]
        step = _estimate(denoiser, schedule, settings, guidance, state, t, to, number, len(path))
        asked = stop is not None and stop()
        step = replace(step, last=asked or to < 0, counts=not _to_come(guidance, t))
        look = None if observe is None else observe(step)
        if look is not None and step.counts and (best is None or look.score > best.score):
            best = Best(step.clean, look.score, t, number)
        state = _next(schedule, settings, step, source)
        if report is not None:
            report(number + 1, len(path))
        reason = "requested" if asked else None if look is None else look.stop
        if reason is not None and to >= 0:
            saved = Saved(state, number + 1, begin)
            return Sampled(step.clean, best, number + 1 - first, t, reason, saved)
    return Sampled(step.clean, best, len(path) - first, None, None, None)


def _to_come(guidance: Guidance | None, t: int) -> bool:
    """Whether a guidance does not act at a level, but will."""
    return guidance is not None and guidance.active(0) and not guidance.active(t)


def _begin(
    schedule: NoiseSchedule,
    start: tuple[int, ...] | Warm | Saved,
    source: NoiseSource,
    device: torch.device | str,
) -> tuple[Tensor, int, int]:
    """The state to begin with, the number of its step, and the level of step 0."""
    if isinstance(start, Saved):
        return start.state.to(device), start.number, start.begin
    if isinstance(start, Warm):
        if not 0 <= start.t < schedule.steps:
            raise ValueError(f"level {start.t} is none of 0 to {schedule.steps - 1}")
        clean = start.clean.to(device)
        noise = source.start(tuple(clean.shape), device)
        return add_noise(schedule, clean, noise, start.t), 0, start.t
    return source.start(tuple(start), device), 0, schedule.steps - 1


def _estimate(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    settings: Sampling,
    guidance: Guidance | None,
    state: Tensor,
    t: int,
    to: int,
    number: int,
    total: int,
) -> Step:
    """The step with its clean estimate, clamped and guided."""
    guide = guidance if guidance is not None and guidance.active(t) else None
    when = torch.full((1,), t, dtype=torch.int64, device=state.device)
    tracked = guide is not None and guide.through_network
    with torch.set_grad_enabled(tracked):
        seen = state.detach().requires_grad_(tracked)
        noise = denoiser(seen, when).float()
        if noise.shape != state.shape:
            raise ValueError(f"noise {tuple(noise.shape)} for a state {tuple(state.shape)}")
        clean = settings.bounded(predicted_clean(schedule, seen, noise, t))
        step = Step(number, total, t, to, schedule.level(t), seen, clean)
        if guide is not None:
            clean = guide(step)
    return replace(step, state=state, clean=clean.detach())


def _next(schedule: NoiseSchedule, settings: Sampling, step: Step, source: NoiseSource) -> Tensor:
    """The state at level ``step.to``, from the clean estimate and the noise it implies."""
    spread = (1 - step.level) ** 0.5
    noise = (step.state - step.level**0.5 * step.clean) / spread
    shape, device = tuple(step.state.shape), step.state.device
    if settings.sampler == "ancestral":
        fresh = source.at(step.t, shape, device)
        return respaced_step(schedule, step.state, noise, step.t, step.to, fresh)
    fresh = source.at(step.t, shape, device) if settings.eta else torch.zeros_like(step.state)
    return ddim_step(schedule, step.state, noise, step.t, step.to, settings.eta, fresh=fresh)
