"""``sample_field``: everything that a sampling method's options ask for, around its denoiser."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regtool.diffusion.guidance import Steering
from regtool.diffusion.noise import NoiseSource
from regtool.diffusion.observation import Plateau, Watch, deviation
from regtool.diffusion.sampling import (
    Denoiser,
    Look,
    Sampled,
    Sampling,
    Saved,
    Step,
    Warm,
    sample,
)
from regtool.diffusion.scale import FieldScale
from regtool.diffusion.schedule import NoiseSchedule
from regtool.engine.sampling.state import resume, settings_of, state_extra
from regtool.engine.sampling.steering import steering_of, unused_masks
from regtool.errors import InputError, UsageError
from regtool.plugins.exchange import Context, Extra, Pair, Prediction
from regtool.plugins.sampling_options import SamplingOptions

LOOKS = 25
"""Looks of ``stop=auto`` where ``previews`` does not say how often."""


def sample_field(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    field: FieldScale,
    shape: tuple[int, ...],
    pair: Pair,
    options: SamplingOptions,
    context: Context,
) -> Prediction:
    """Sample the displacement of a pair, as ``options`` ask.

    ``denoiser(state, t)`` gives the noise of a state of ``shape`` (B, C, *s) at the level ``t``
    (1,) of ``schedule``, with the pair in view; ``field`` says which displacement (B, ndim, *S) in
    voxels a normalised field stands for. ``pair.field`` is where a warm start begins.

    Several samples are drawn one after the other; the answer is their mean, the extra
    ``Deviation`` how far they lie apart (mm). ``previews`` of the first sample become the extras
    ``Previews`` and ``PreviewScores``. A sampling that is ended early (``stop``, ``stop_at``, or
    ``context.stop_requested``) answers its best look, notes ``stopped_at`` and, alone, leaves its
    ``State``; samples that were complete before count, the broken one then does not.
    Raises UsageError and InputError for options that do not fit the pair.
    """
    run = _Run(denoiser, schedule, field, shape, pair, options, context)
    with torch.no_grad():
        return run.prediction()


@dataclass
class _Run:
    denoiser: Denoiser
    schedule: NoiseSchedule
    field: FieldScale
    shape: tuple[int, ...]
    pair: Pair
    options: SamplingOptions
    context: Context

    def prediction(self) -> Prediction:
        self._check()
        options, device = self.options, self.pair.fixed.image.device
        start, settings, seed, warnings = self._start()
        begin = start.begin if isinstance(start, Saved) else getattr(start, "t", None)
        path = self._levels(settings, begin)
        if isinstance(start, Saved) and start.number >= len(path):
            raise InputError(
                f"{options.resume}: step {start.number}, but its settings have {len(path)} steps"
            )
        steering = steering_of(options, self.pair, self.field, self.schedule)
        done: list[tuple[Sampled, Watch]] = []
        for member in range(options.samples):
            watch = self._watch(len(path), steering, first=member == 0)
            found = sample(
                self.denoiser,
                self.schedule,
                start,
                settings,
                NoiseSource(seed, (member,)),
                device=device,
                guidance=steering,
                observe=_Observer(watch, options.stop_at),
                stop=self.context.stop_requested,
                report=self._report(member),
            )
            done.append((found, watch))
            if found.reason == "requested":
                break
        if done[-1][0].reason == "requested" and len(done) > 1:
            done.pop()
            warnings.append(f"stopped by request after {len(done)} of {options.samples} samples")
        return self._answer(done, settings, seed, len(path), warnings)

    def _check(self) -> None:
        options, last = self.options, self.schedule.steps - 1
        for name in ("warm_level", "stop_at"):
            level = getattr(options, name)
            if level is not None and level > last:
                raise UsageError(f"option '{name}': {level}; this method's levels end at {last}")
        if options.resume and (options.samples > 1 or options.warm):
            raise UsageError("option 'resume' goes on with one sample; leave out samples and warm")
        if options.warm and self.pair.field is None:
            raise UsageError("option 'warm': this method was not given the field")

    def _start(self) -> tuple[tuple[int, ...] | Warm | Saved, Sampling, int, list[str]]:
        """Where to begin, how, with which seed, and what to warn of."""
        sentence = unused_masks(self.options, self.pair)
        warnings = [] if sentence is None else [sentence]
        settings, seed = settings_of(self.options), self.context.generator.initial_seed()
        if self.options.resume:
            levels = self.schedule.steps
            again = resume(self.options.resume, self.options, self.shape, levels, self.pair)
            return again.saved, again.settings, again.seed, [*warnings, *again.warnings]
        if self.options.warm and self.pair.field is not None:
            clean = self.field.normalised(self.pair.field)
            return Warm(clean, self.options.warm_level), settings, seed, warnings
        return self.shape, settings, seed, warnings

    def _levels(self, settings: Sampling, begin: int | None) -> list[tuple[int, int]]:
        path = settings.levels(self.schedule, begin)
        if self.options.stop_at is not None and self.options.stop_at >= path[0][0]:
            raise UsageError(
                f"option 'stop_at': {self.options.stop_at} is not below {path[0][0]}, where this "
                "sampling begins"
            )
        return path

    def _watch(self, total: int, steering: Steering | None, first: bool) -> Watch:
        options = self.options
        auto = options.stop == "auto"
        every = options.previews or (max(1, total // LOOKS) if auto else total)
        below = round(0.75 * self.schedule.steps)
        return Watch(
            self.pair.fixed.image,
            self.pair.moving.image,
            self.field,
            every,
            keep=bool(options.previews) and first,
            plateau=Plateau(options.patience, below=below) if auto else None,
            steering=steering,
            tell=self._tell,
        )

    def _tell(self, scores: dict[str, float], displacement: Tensor) -> bool:
        self.context.show(scores)
        if not self.context.watched:
            return True
        return self.context.preview(int(scores["step"]), Prediction(displacement=displacement))

    def _report(self, member: int) -> Any:
        def report(done: int, total: int) -> None:
            self.context.report(member * total + done, self.options.samples * total)

        return report

    def _answer(
        self,
        done: list[tuple[Sampled, Watch]],
        settings: Sampling,
        seed: int,
        planned: int,
        warnings: list[str],
    ) -> Prediction:
        auto = self.options.stop == "auto"
        chosen = [s.best.clean if auto and s.best else s.answer for s, _ in done]
        fields = torch.stack([self.field.voxels(clean) for clean in chosen])
        (first, watch), extras = done[0], {}
        if len(fields) > 1:
            apart = [deviation(one, self.pair.fixed.spacing)[1] for one in fields.unbind(1)]
            extras["Deviation"] = Extra(torch.cat(apart), "map")
        if watch.frames:
            frames = [self.field.voxels(clean.to(fields.device)) for clean in watch.frames]
            extras["Previews"] = Extra(torch.stack(frames, 1), "trajectory")
            rows = [list(row.values()) for row in watch.rows]
            names = tuple(watch.rows[0])
            extras["PreviewScores"] = Extra(
                torch.tensor(rows, dtype=torch.float64), "table", columns=names
            )
        notes = self._notes(done, settings, seed, planned)
        if first.saved is not None and len(done) == 1 == self.options.samples:
            levels = self.schedule.steps
            extras["State"] = state_extra(first.saved, settings, seed, levels, self.pair)
        if first.reason == "requested" and first.best is not None:
            warnings.append(
                f"stopped by request at level {first.stopped_at} of {self.schedule.steps}; the "
                f"best preview is at level {first.best.t} (local NCC {first.best.score:.3f})"
            )
        return Prediction(
            displacement=fields.mean(0), extras=extras, notes=notes, warnings=warnings
        )

    def _notes(
        self, done: list[tuple[Sampled, Watch]], settings: Sampling, seed: int, planned: int
    ) -> dict[str, Any]:
        """What the record says: the settings as they were, and of each sample how it went."""
        auto = self.options.stop == "auto"
        each = []
        for found, watch in done:
            kept = found.best if auto or found.stopped_at is not None else None
            scores = next((r for r in watch.rows if kept and r["t"] == kept.t), watch.rows[-1])
            each.append(
                {
                    "steps": found.steps,
                    "stopped_at": found.stopped_at,
                    "reason": found.reason,
                    "scores": {k: v for k, v in scores.items() if math.isfinite(v)},
                }
            )
        notes: dict[str, Any] = {
            "sampling": {
                "sampler": settings.sampler,
                "steps": planned,
                "eta": settings.eta,
                "clamp": settings.clamp,
                "levels": self.schedule.steps,
                "seed": seed,
                "samples": each,
            }
        }
        stopped = [found.stopped_at for found, _ in done if found.stopped_at is not None]
        if stopped:
            notes["stopped_at"] = stopped[0] if self.options.samples == 1 else stopped
        return notes


@dataclass
class _Observer:
    """A watch that also ends the sampling at a level."""

    watch: Watch
    stop_at: int | None

    def __call__(self, step: Step) -> Look | None:
        here = self.stop_at is not None and step.t <= self.stop_at and step.to >= 0
        look = self.watch(replace(step, last=True) if here else step)
        return replace(look, stop=look.stop or "level") if here and look is not None else look
