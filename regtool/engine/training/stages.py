"""The stages of a run, one after another, over its prepared data."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from regtool.engine.training.checkpoint import load_tensors
from regtool.engine.training.dataset import Splits
from regtool.engine.training.frozen import fingerprints
from regtool.engine.training.initial_weights import load_initial
from regtool.engine.training.logs import Logs, Progress
from regtool.engine.training.loop import Ending, StageLoop, Surroundings
from regtool.engine.training.outcome import Outcome, registrar_of, stage_file
from regtool.engine.training.plan import Plan
from regtool.engine.training.rundata import prepared_stores
from regtool.engine.training.runtime import Runtime
from regtool.engine.training.seeds import derive, seed_globally
from regtool.engine.training.settings import loop_settings
from regtool.engine.training.state import CHECKPOINT, State, read_checkpoint
from regtool.engine.training.stepper import Stepper
from regtool.engine.training.stop import Stopper
from regtool.engine.training.store import PairStore
from regtool.engine.training.validator import Validator
from regtool.errors import Interrupted, OutputError, UsageError, WeightsError
from regtool.plugins import discovery
from regtool.plugins.charge import charged
from regtool.plugins.training import Stage
from regtool.prepare.preparation import Preparation

log = logging.getLogger("regtool.train")


@dataclass
class TrainResult:
    """How a run ended. ``weights`` is the exported folder, if the last stage got so far."""

    ending: Ending
    stage: str
    step: int
    folder: Path
    weights: Path | None = None
    best_step: int = -1
    best: float | None = None
    figures: dict[str, float] = field(default_factory=dict)


class Run:
    """One run: its data, its stages one after another, its exported weights."""

    def __init__(
        self, folder: Path, plan: Plan, runtime: Runtime, stopper: Stopper, bar: Progress
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.runtime = runtime
        self.stopper = stopper
        self.bar = bar
        self.logs = Logs(folder, runtime.accelerator, bar, runtime.main)
        self.config = {**plan.preset, "method": plan.method.name}
        options = discovery.resolve_import(
            plan.method.options, f"options of method '{plan.method.name}'"
        )
        self.options = options(**plan.preset.get("options", {}))

    def prepare(self, splits: Splits) -> tuple[PairStore, PairStore | None]:
        """The prepared pairs of training and validation, with the fields that are needed."""
        train, val = prepared_stores(
            self.folder, splits, self.plan, self.runtime, self.stopper, self.bar
        )
        if train.field_statistics is not None:
            self.config["fields"] = train.field_statistics
        return train, val

    def rehearse(self) -> None:
        """Build the first stage from its initial weights, so that one that cannot start is known
        before anything gives way to it, or is in the way of the corrected command. Raises
        WeightsError."""
        stage = self.plan.stages[0]
        self._initialise(stage, self._build(stage, {}))

    def go(self, train_store: PairStore, val_store: PairStore | None) -> TrainResult:
        """Train the stages."""
        state = self._stored_state()
        self.logs.open(self._logged(state))
        try:
            return self._stages(train_store, val_store, state)
        finally:
            self.logs.close()

    # -- stages --------------------------------------------------------------------------------

    def _stored_state(self) -> State | None:
        """The checkpoint's state, if it belongs to a stage that is to be trained."""
        if not self.plan.checkpoint:
            return None
        _, state = read_checkpoint(self.folder / CHECKPOINT)
        if state.stage in {stage.name for stage in self.plan.chosen}:
            return state
        log.info("the checkpoint of stage %r, step %d, gives way", state.stage, state.step)
        return None

    def _logged(self, state: State | None) -> Mapping[tuple[str, str], int] | None:
        """Up to which step each stage's log rows are part of the run that is continued."""
        if not self.plan.resuming:
            return None
        chosen = [stage.name for stage in self.plan.chosen]
        kept: dict[tuple[str, str], int] = {}
        for stage in self.plan.stages:
            name, last = stage.name, (sys.maxsize, sys.maxsize)
            if state is not None and name == state.stage:
                last = (state.step, state.validated)
            elif name in chosen and name not in self._finished(state):
                last = (-1, -1)
            kept[name, "train"], kept[name, "val"] = last
        return kept

    def _stages(
        self, train_store: PairStore, val_store: PairStore | None, state: State | None
    ) -> TrainResult:
        names = [stage.name for stage in self.plan.stages]
        upstream: dict[str, nn.Module] = {}
        done = self._finished(state)
        result: TrainResult | None = None
        for stage in self.plan.stages[: names.index(self.plan.chosen[-1].name) + 1]:
            if stage in self.plan.chosen and stage.name not in done:
                resumed = state is not None and state.stage == stage.name
                result = self._one_stage(stage, upstream, train_store, val_store, resumed)
                if result.ending == "time":
                    return result
                self.runtime.accelerator.wait_for_everyone()
            upstream[stage.name] = self._finished_module(stage, upstream)
        assert result is not None  # the last chosen stage is never among those done
        return result

    def _one_stage(
        self,
        stage: Stage,
        upstream: Mapping[str, nn.Module],
        train_store: PairStore,
        val_store: PairStore | None,
        resumed: bool,
    ) -> TrainResult:
        """Train one stage to its end. Raises Interrupted once its checkpoint is written."""
        settings, plan = loop_settings(self.plan.preset, stage.name), self.plan
        if settings.ways == "exchanged":
            train_store = train_store.exchanged()
            val_store = None if val_store is None else val_store.exchanged()
        module = self._build(stage, upstream)
        frozen = fingerprints(module, stage.freezes)  # initial weights may bring others
        if not resumed:
            self._initialise(stage, module)
        if settings.channels_last:
            _channels_last(module)
        outcome = Outcome(
            self.folder, plan, stage, settings, module, train_store, val_store, self.runtime.device
        )
        stepper = Stepper(
            stage,
            module,
            train_store,
            self.runtime,
            seed=plan.settings.seed,
            label_loss=plan.settings.label_loss,
            augmentation=settings.augment,
            both=settings.ways == "both",
            patch=settings.patch,
        )
        validator = None
        if val_store is not None and val_store.items:
            validator = Validator(
                val_store,
                stepper,
                self.stopper,
                registrar=registrar_of,
                options=self.options,
                preparation=Preparation.model_validate(plan.preset["preparation"]),
                select=settings.select,
                seed=plan.settings.seed,
            )
        around = Surroundings(self.folder, self.logs, self.stopper, outcome.keep)
        loop = StageLoop(stepper, validator, settings, around, frozen)
        if resumed:
            loop.restore()
        outcome.check()
        ending = loop.run()
        if self.runtime.main:
            outcome.describe(loop.state)
        if ending == "signal":
            raise Interrupted(
                f"interrupted at step {loop.state.step} of stage {stage.name!r}; continue with "
                f"regtool train --resume -o {self.folder}"
            )
        state, weights = loop.state, outcome.weights
        return TrainResult(
            ending,
            state.stage,
            state.step,
            self.folder,
            weights if weights.is_dir() else None,
            state.best_step,
            state.best,
            dict(state.best_figures),
        )

    def _finished(self, state: State | None) -> set[str]:
        """Names of chosen stages that lie before the checkpoint's."""
        names = [stage.name for stage in self.plan.chosen]
        return set(names[: names.index(state.stage)]) if state is not None else set()

    def _build(self, stage: Stage, upstream: Mapping[str, nn.Module]) -> nn.Module:
        seed_globally(derive(self.plan.settings.seed, stage.name, "init"))
        with charged(f"method '{self.plan.method.name}', build of stage {stage.name!r}"):
            return stage.build(self.config, upstream)

    def _initialise(self, stage: Stage, module: nn.Module) -> None:
        """``--init-weights``, for the first stage that is to be trained."""
        wanted, plan = self.plan.settings.init_weights, self.plan
        if wanted is not None and stage is plan.chosen[0]:
            ndim = int(plan.preset["ndim"])
            try:
                load_initial(wanted, module, registrar_of(module), plan.method, ndim)
            except WeightsError as error:
                slices = plan.preset.get("training", {}).get("slices_first") is not None
                if not slices or stage is plan.stages[-1] or "does not fit" not in str(error):
                    raise
                raise WeightsError(
                    f"--init-weights {wanted}: they do not fit the stage {stage.name!r}, which "
                    f"comes first; --set slices_first=none trains {plan.stages[-1].name!r} alone, "
                    "from them"
                ) from error

    def _finished_module(self, stage: Stage, upstream: Mapping[str, nn.Module]) -> nn.Module:
        path = stage_file(self.folder, stage)
        if not self.folder.exists():
            raise OutputError(f"{self.folder}: somebody has removed the run's folder")
        if not path.exists():
            raise UsageError(
                f"{path}: missing; train the stage {stage.name!r} in this folder first"
            )
        module = self._build(stage, upstream)
        module.load_state_dict(load_tensors(path)[0])
        return module.to(self.runtime.device).eval()


def _channels_last(module: nn.Module) -> None:
    """Store convolution weights channels last; the results then are so, too."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif isinstance(part, nn.Conv3d | nn.ConvTranspose3d):
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
