"""Single steps along a schedule: DDPM, DDIM between any two levels, and DDIM inversion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from regtool.diffusion.schedule import NoiseSchedule


def predicted_clean(schedule: NoiseSchedule, noisy: Tensor, noise: Tensor, t: int) -> Tensor:
    """The clean sample that ``noisy`` at step ``t`` and its predicted ``noise`` amount to."""
    level = schedule.level(t)
    return (noisy - (1 - level) ** 0.5 * noise) / level**0.5


def ddpm_step(
    schedule: NoiseSchedule,
    noisy: Tensor,
    noise: Tensor,
    t: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One ancestral step from ``t`` to ``t - 1`` with the posterior variance; none at the last.

    Source: Ho et al., NeurIPS 2020, algorithm 2.
    """
    return schedule.scheduler.step(noise, t, noisy, generator=generator).prev_sample  # type: ignore[union-attr]


def ddim_step(
    schedule: NoiseSchedule,
    noisy: Tensor,
    noise: Tensor,
    t: int,
    to: int,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    fresh: Tensor | None = None,
) -> Tensor:
    """From step ``t`` to step ``to``, which may lie on either side; -1 means clean.

    Source: Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, equation 12. ``eta`` 0 is
    deterministic, 1 has the variance of DDPM (only towards less noise). diffusers ties its step to
    equal strides; here both ends are free. ``fresh`` is standard normal noise for ``eta`` of the
    shape of ``noisy``; drawn from ``generator`` where it is not given.
    """
    here, there = schedule.level(t), schedule.level(to)
    spread = eta * (max(0.0, (1 - there) / (1 - here) * (1 - here / there)) ** 0.5 if eta else 0.0)
    clean = predicted_clean(schedule, noisy, noise, t)
    out = there**0.5 * clean + max(0.0, 1 - there - spread**2) ** 0.5 * noise
    if spread and fresh is None:
        fresh = torch.randn(
            noisy.shape, generator=generator, device=noisy.device, dtype=noisy.dtype
        )
    return out + spread * fresh if spread and fresh is not None else out


def ddim_inversion(
    schedule: NoiseSchedule, predict: Callable[[Tensor, int], Tensor], clean: Tensor, t: int
) -> Tensor:
    """Walk a clean sample deterministically up to step ``t``, one level at a time.

    ``predict(sample, step)`` is the network's noise. The first step takes the noise predicted for
    level 0, since networks know no cleaner one. Source: Song et al., ICLR 2021, section 4.3.
    """
    sample = clean
    for level in range(t + 1):
        noise = predict(sample, max(level - 1, 0))
        sample = ddim_step(schedule, sample, noise, level - 1, level)
    return sample


def respaced(start: int, steps: int) -> list[tuple[int, int]]:
    """Pairs (from, to) of ``steps`` evenly spaced levels below ``start``, down to the clean one.

    The first is ``start - 1`` and the last 0, which leads to -1; as many unit steps as there are
    levels where ``steps`` is at least ``start``. Raises ValueError below one.
    """
    if start < 1 or steps < 1:
        raise ValueError(f"start {start} and steps {steps} must be at least 1")
    count = min(start, steps)
    last = start - 1
    levels = [round(last - last * k / max(1, count - 1)) for k in range(count)]
    return list(zip(levels, [*levels[1:], -1], strict=True))


def respaced_step(
    schedule: NoiseSchedule,
    noisy: Tensor,
    noise: Tensor,
    t: int,
    to: int,
    fresh: Tensor,
    bound: float | None = None,
) -> Tensor:
    """One ancestral step from ``t`` to a lower ``to``, -1 for the clean end, with any stride.

    The posterior of Ho et al. (NeurIPS 2020, equation 7) for the levels that are visited only, as
    Nichol and Dhariwal respace it (ICML 2021); ``to = t - 1`` is DDPM's own step. ``fresh`` is
    standard normal noise of the shape of ``noisy`` (or a batch of one); the last step adds none.
    ``bound`` clamps the clean estimate to [-bound, bound].
    """
    here, there = schedule.level(t), schedule.level(to)
    clean = predicted_clean(schedule, noisy, noise, t)
    if bound is not None:
        clean = clean.clamp(-bound, bound)
    signal = here / there  # alpha of the stride
    from_clean = there**0.5 * (1 - signal) / (1 - here)
    from_noisy = signal**0.5 * (1 - there) / (1 - here)
    spread = ((1 - there) / (1 - here) * (1 - signal)) ** 0.5
    return from_clean * clean + from_noisy * noisy + spread * fresh
