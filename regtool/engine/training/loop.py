"""The loop of one stage: steps, logs, validations, checkpoints, and every way of ending."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from regtool.engine.training.checkpoint import load_checkpoint, save_checkpoint
from regtool.engine.training.logs import Logs
from regtool.engine.training.settings import LoopSettings
from regtool.engine.training.state import CHECKPOINT, DivergedError, State, read_checkpoint
from regtool.engine.training.stepper import Stepper
from regtool.engine.training.stop import Stopper
from regtool.engine.training.validate import in_words
from regtool.engine.training.validator import Validator
from regtool.engine.training.window import Window
from regtool.errors import UsageError

log = logging.getLogger("regtool.train")

Ending = Literal["finished", "early", "time", "signal"]


_STILL = 1e-3
"""Figures that differ by less are alike."""


@dataclass
class Surroundings:
    """What a stage needs from the run: folder, figures, when to stop, what to do with the best.

    ``best(state)`` is called while the best weights are in the module.
    """

    folder: Path
    logs: Logs
    stopper: Stopper
    best: Callable[[State], None]


class StageLoop:
    """Runs one stage from its state to one of its endings.

    ``frozen`` are the fingerprints of the parts it keeps, as the earlier stages left them.
    """

    def __init__(
        self,
        stepper: Stepper,
        validator: Validator | None,
        settings: LoopSettings,
        around: Surroundings,
        frozen: dict[str, str],
    ) -> None:
        self.stepper = stepper
        self.stage = stepper.stage
        self._validator = validator
        self._settings = settings
        self._around = around
        self._window = Window()
        self.state = State(self.stage.name, stepper.store.fingerprint, frozen)
        steps = self.stage.steps
        self._log_every = settings.log_every or max(1, min(50, steps // 200))
        self._val_every = settings.val_every or max(5, steps // 40)
        self._check_every = 1 if stepper.runtime.device.type == "cpu" else 20
        self._clock = self._saved = time.monotonic()
        self._note = ""
        self._latest: float | None = None
        self._untrained = True
        """Whether the steps of this process are the first of the stage."""

    @property
    def total(self) -> int:
        """Number of steps of the stage."""
        return self.stage.steps

    def restore(self) -> None:
        """Continue from the run's checkpoint. Raises InputError or UsageError."""
        path = self._around.folder / CHECKPOINT
        parts, state = read_checkpoint(path)
        if state.data != self.state.data:
            raise UsageError(
                f"{path}: the prepared training pairs are no longer those this run began with "
                "(files or their preparation changed); start a new run in another folder"
            )
        for part, digest in self.state.frozen.items():
            if state.frozen.get(part) != digest:
                raise UsageError(
                    f"{path}: {part!r} is frozen in stage {self.stage.name!r} and no longer what "
                    "this stage began with (an earlier stage was trained anew); start the stage "
                    "again in another folder"
                )
        self.stepper.restore(parts, state.numbers)
        self._window.load(state.window)
        self.state = state
        self._untrained = state.step == 0

    def save(self) -> None:
        """Write the checkpoint; broken weights never replace the last good one.

        Raises DivergedError or OutputError.
        """
        self._tick()
        if not self.stepper.sound or not self._window.finite:
            raise self._diverged()
        self._saved = time.monotonic()
        if not self.stepper.runtime.main:
            return
        self.state.window = self._window.state()
        self.state.numbers = self.stepper.numbers()
        save_checkpoint(
            self._around.folder / CHECKPOINT, self.stepper.tensors(), asdict(self.state)
        )

    def run(self) -> Ending:
        """Train to an ending and write the checkpoint there. Raises DivergedError, OutputError."""
        self._clock = time.monotonic()
        self._around.logs.bar.start(self.stage.name, self.state.step, self.total)
        self.stepper.prepare()
        if self.state.step == 0 and self.state.validated < 0:
            self.save()
        while True:
            self._maybe_validate()
            ending = self._ending()
            if ending is not None:
                return self._end(ending)
            self._window.add(*self.stepper.step(self.state.step))
            self.state.step += 1
            self._after_step()

    def _after_step(self) -> None:
        step = self.state.step
        if step % self._check_every == 0 and not self._agreed(self._window.finite):
            raise self._diverged()
        if step % self._log_every == 0:
            self._log_row()
        bar = self._around.logs.bar
        bar.update(step, self.total, self._note)
        every = self._settings.checkpoint_every
        late = time.monotonic() - self._saved >= self._settings.checkpoint_seconds
        if late or (every and step % every == 0):
            self.save()

    def _ending(self) -> Ending | None:
        if self.state.early:
            return "early"
        if self.state.step >= self.total:
            return (
                "finished"
                if self.state.validated == self.state.step or self._validator is None
                else self._reason()
            )
        return self._reason()

    def _reason(self) -> Ending | None:
        reason: Ending | None = self._around.stopper.reason
        if self.stepper.runtime.world > 1:
            # All ranks have to leave at the same step; asking every time would cost a message.
            if self.state.step % 10 and self.state.step < self.total:
                return None
            by_signal, by_time = self.stepper.runtime.agree(
                [float(reason == "signal"), float(reason == "time")]
            )
            reason = "signal" if by_signal else "time" if by_time else None
        return reason

    def _end(self, ending: Ending) -> Ending:
        if ending in ("finished", "early"):
            self._log_row()
        self.save()
        since = self.state.step - self.state.best_step
        if 0 < self.state.best_step <= self._val_every and since >= 3 * self._val_every:
            best, latest = self.state.best, self._latest
            still = best is not None and latest is not None and abs(best - latest) < _STILL
            what, remedy = "nothing was gained", "a lower --lr"
            if still:
                what, remedy = "little has changed", "more --steps"
            log.warning(
                "%s: the first validation, at step %d, was the best; %s in the %d steps since "
                "(%s may help)",
                *(self.stage.name, self.state.best_step, what, since, remedy),
            )
        unproven = self.state.best is None and ending != "signal"
        if unproven and self.stepper.runtime.main:
            with self.stepper.averaged():
                self._around.best(self.state)
        return ending

    def _log_row(self) -> None:
        means = self._window.means()
        if not means:
            return
        if self.stepper.runtime.world > 1:
            summed = self.stepper.runtime.agree(list(means.values()))
            means = {k: v / self.stepper.runtime.world for k, v in zip(means, summed, strict=True)}
        first = next(iter(means))
        best = ""
        if self._validator is not None and self.state.best_figures:
            best = f", best {self._validator.judged(self.state.best_figures)}"
        self._note = f"{first} {means[first]:.4g}{best}"
        row = {"lr": self.stepper.rate(self.state.step - 1), **means}
        self._tick()
        self._around.logs.figures(
            self.stage.name, self.state.step, "train", row, self.state.seconds
        )

    # -- validation ----------------------------------------------------------------------------

    def _maybe_validate(self) -> None:
        step = self.state.step
        due = step > 0 and (step % self._val_every == 0 or step == self.total)
        if self._validator is None or not due or self.state.validated == step or self.state.early:
            return
        figures = self._validator.figures(step)
        self.stepper.prepare()
        if figures is None:
            return  # interrupted: the checkpoint says that this validation is still to come
        self._tick()
        self.state.validated = step
        self._around.logs.figures(self.stage.name, step, "val", figures, self.state.seconds)
        log.info("%s step %d: %s", self.stage.name, step, in_words(figures))
        self._judge(figures, self._validator.score(figures))

    def _judge(self, figures: dict[str, float], new: float) -> None:
        state, self._latest = self.state, new
        gained = state.best is None or new > state.best + self._settings.min_gain
        if state.best is None or new > state.best:
            state.best, state.best_step, state.best_figures = new, state.step, figures
            if self.stepper.runtime.main:
                with self.stepper.averaged():
                    self._around.best(state)
        state.stale = 0 if gained else state.stale + 1
        state.early = 0 < self._settings.patience <= state.stale

    # -- small things --------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now

    def _agreed(self, good: bool) -> bool:
        if self.stepper.runtime.world == 1:
            return good
        return self.stepper.runtime.agree([float(not good)])[0] == 0

    def _diverged(self) -> DivergedError:
        folder, path = self._around.folder, self._around.folder / CHECKPOINT
        step = load_checkpoint(path)[1]["step"] if path.exists() else 0
        replaced = f"(--overwrite replaces the run in {folder})"
        if self._untrained and self._window.wrong_at_once:
            return DivergedError(
                f"stage {self.stage.name!r}, step 1: the loss is not finite from the start, before "
                "any weight was changed, so --lr does not matter: look for NaN or infinity in "
                f"the method's answer or its loss {replaced}"
            )
        again = f"train with a lower --lr {replaced}"
        if step:
            again = (
                f"{path} keeps the last good state, step {step}; start a new run in another folder "
                f"with --init-weights {path} and a lower --lr"
            )
        return DivergedError(
            f"stage {self.stage.name!r}, step {self.state.step}: the loss or the weights are no "
            f"longer finite; {again}"
        )
