"""``train``: from a request to a run folder with finished weights."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regtool.engine.training.checkpoint import load_checkpoint, load_tensors, save_tensors, sweep
from regtool.engine.training.dataset import open_splits, open_store
from regtool.engine.training.export import check_registrar, export, make_config, reader_of
from regtool.engine.training.initial_weights import load_initial
from regtool.engine.training.lock import locked
from regtool.engine.training.logs import Logs, ProgressBar
from regtool.engine.training.loop import CHECKPOINT, Ending, StageLoop, State, Surroundings
from regtool.engine.training.plan import SETTINGS, Plan, TrainRequest, make_plan
from regtool.engine.training.runtime import Runtime, start_runtime
from regtool.engine.training.seeds import derive, seed_globally
from regtool.engine.training.settings import (
    LoopSettings,
    RunSettings,
    loop_settings,
    read_settings,
    write_settings,
)
from regtool.engine.training.stepper import Stepper
from regtool.engine.training.stop import Stopper
from regtool.engine.training.store import PairStore
from regtool.errors import InputError, Interrupted, UsageError
from regtool.plugins import discovery
from regtool.plugins.training import Stage
from regtool.prepare.preparation import Preparation

log = logging.getLogger("regtool.train")

__all__ = ["TrainRequest", "TrainResult", "train"]

_OWN = ("log.csv", SETTINGS, CHECKPOINT)
_OWN_FOLDERS = ("tensorboard", "stages", "weights", "cache")


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


def train(request: TrainRequest) -> TrainResult:
    """Train a method as requested; see ``TrainRequest``.

    Returns when all chosen stages are finished or the time limit is reached (``ending`` tells);
    raises Interrupted after writing a checkpoint on SIGINT or SIGTERM, and RegtoolError for all
    expected failures.
    """
    before = _stored(request)
    request = replace(
        request,
        threads=request.threads or (before.threads if before else None),
        precision=request.precision or (before.precision if before else "fp32"),
        deterministic=bool(before and before.deterministic)
        if request.deterministic is None
        else request.deterministic,
    )
    with Stopper(request.time_limit) as stopper:
        runtime = start_runtime(
            request.device,
            str(request.precision),
            request.threads,
            bool(request.deterministic),
            str(request.output),
        )
        if not runtime.main:
            return _train(request, runtime, stopper)
        with locked(request.output):
            return _train(request, runtime, stopper)


def _stored(request: TrainRequest) -> RunSettings | None:
    """Settings of the run that is to be resumed."""
    path = request.output / SETTINGS
    return read_settings(path) if request.resume and path.exists() else None


def _train(request: TrainRequest, runtime: Runtime, stopper: Stopper) -> TrainResult:
    plan = make_plan(request, runtime.world)
    runtime.accelerator.wait_for_everyone()
    if runtime.main:
        _make_folder(request, plan)
    with ProgressBar(request.quiet or not runtime.main) as bar:
        run = _Run(request.output, plan, runtime, stopper, bar)
        return run.go()


def _make_folder(request: TrainRequest, plan: Plan) -> None:
    folder = request.output
    if not plan.resuming:
        for name in _OWN:
            (folder / name).unlink(missing_ok=True)
        for name in _OWN_FOLDERS:
            if (folder / name).is_dir() and not (name == "cache" and request.resume):
                shutil.rmtree(folder / name)
    for place in (folder, folder / "stages", folder / "cache"):
        if place.is_dir():
            sweep(place)
    write_settings(folder / SETTINGS, plan.settings)


class _Run:
    """One run: its data, its stages one after another, its exported weights."""

    def __init__(
        self, folder: Path, plan: Plan, runtime: Runtime, stopper: Stopper, bar: ProgressBar
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.runtime = runtime
        self.stopper = stopper
        self.bar = bar
        self.logs = Logs(folder, runtime.accelerator, bar, runtime.main)
        self.preparation = Preparation.model_validate(plan.preset["preparation"])
        self.config_base = {**plan.preset, "method": plan.method.name}
        options = discovery.resolve_import(
            plan.method.options, f"options of method '{plan.method.name}'"
        )
        self.options = options(**plan.preset.get("options", {}))

    def go(self) -> TrainResult:
        train_store, val_store = self._data()
        state = self._stored_state()
        self.logs.open(self._logged(state) if state is not None else None)
        try:
            return self._stages(train_store, val_store, state)
        finally:
            self.logs.close()

    # -- data ----------------------------------------------------------------------------------

    def _data(self) -> tuple[PairStore, PairStore | None]:
        settings = self.plan.settings
        train_cases, val_cases = open_splits(settings.data, settings.val)
        options = loop_settings(self.plan.preset, self.plan.chosen[0].name)
        stores = []
        for name, cases in (("train", train_cases), ("val", val_cases)):
            self.bar.start(f"preparing {name} pairs", 0, len(cases))
            stores.append(open_store(
                cases, self.preparation, slices=options.slices, seed=settings.seed,
                threads=settings.threads or 1, report=self._prepared,
                cache=self.folder / "cache" / f"{name}.safetensors"
                if options.cache and self.runtime.main else None,
            ))  # fmt: skip
        train_store, val_store = stores[0].without_blank(), stores[1]
        if not train_store.items:
            raise InputError("all training pairs are blank after preparation")
        if settings.label_loss > 0 and not train_store.has_labels:
            raise UsageError("--label-loss: the training pairs have no labels")
        log.info(
            "%d training pairs (%d examples in both directions), %d validation pairs",
            len(train_store.names),
            2 * len(train_store.items),
            len(val_store.names),
        )
        if not val_store.items:
            log.warning("no validation pairs: the last weights are kept instead of the best")
        return self._placed(train_store), val_store if val_store.items else None

    def _prepared(self, done: int, total: int) -> None:
        if self.stopper.reason == "signal":
            raise Interrupted("interrupted while preparing the pairs; nothing was trained yet")
        self.bar.update(done, total)

    def _placed(self, store: PairStore) -> PairStore:
        """On the GPU if it takes a small part of its memory, so that no step waits for a copy."""
        device = self.runtime.device
        if device.type != "cuda" or store.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
            return store
        return store.to(device)

    # -- stages --------------------------------------------------------------------------------

    def _stored_state(self) -> State | None:
        path = self.folder / CHECKPOINT
        if not self.plan.resuming:
            return None
        _, values = load_checkpoint(path)
        return State(**values)

    def _logged(self, state: State) -> Mapping[tuple[str, str], int]:
        """Up to which step each stage's log rows are part of the run that is continued."""
        kept: dict[tuple[str, str], int] = {}
        for stage in self.plan.chosen:
            if stage.name == state.stage:
                kept[stage.name, "train"], kept[stage.name, "val"] = state.step, state.validated
                break
            kept[stage.name, "train"] = kept[stage.name, "val"] = stage.steps
        return kept

    def _stages(
        self, train_store: PairStore, val_store: PairStore | None, state: State | None
    ) -> TrainResult:
        names = [stage.name for stage in self.plan.stages]
        upstream: dict[str, nn.Module] = {}
        done = self._finished(state)
        result: TrainResult | None = None
        for stage in self.plan.stages[: names.index(self.plan.chosen[-1].name) + 1]:
            if stage not in self.plan.chosen or stage.name in done:
                upstream[stage.name] = self._finished_module(stage, upstream)
                continue
            module = self._build(stage, upstream)
            self._initialise(stage, module)
            resumed = state is not None and state.stage == stage.name
            loop = self._loop(stage, module, train_store, val_store, resumed)
            ending = loop.run()
            result = self._result(loop, ending)
            if ending == "signal":
                raise Interrupted(
                    f"interrupted at step {loop.state.step} of stage {stage.name!r}; continue with "
                    f"regtool train --resume -o {self.folder}"
                )
            if ending == "time":
                log.info(
                    "time limit reached at step %d of stage %r; continue with "
                    "regtool train --resume -o %s",
                    loop.state.step,
                    stage.name,
                    self.folder,
                )
                return result
            self.runtime.accelerator.wait_for_everyone()
            upstream[stage.name] = self._finished_module(stage, upstream)
        assert result is not None
        return result

    def _finished(self, state: State | None) -> set[str]:
        """Names of chosen stages that lie before the checkpoint's."""
        names = [stage.name for stage in self.plan.chosen]
        return set(names[: names.index(state.stage)]) if state is not None else set()

    def _build(self, stage: Stage, upstream: Mapping[str, nn.Module]) -> nn.Module:
        seed_globally(derive(self.plan.settings.seed, stage.name, "init"))
        return stage.build(self.config_base, upstream)

    def _initialise(self, stage: Stage, module: nn.Module) -> None:
        """``--init-weights``, for the first stage that is trained."""
        wanted = self.plan.settings.init_weights
        if wanted is not None and not self.plan.resuming and stage is self.plan.chosen[0]:
            load_initial(
                wanted,
                module,
                self._registrar(module),
                self.plan.method,
                int(self.plan.preset["ndim"]),
            )

    def _finished_module(self, stage: Stage, upstream: Mapping[str, nn.Module]) -> nn.Module:
        path = self.folder / "stages" / f"{stage.name}.safetensors"
        if not path.exists():
            raise InputError(f"{path}: missing; train stage {stage.name!r} first")
        module = self._build(stage, upstream)
        module.load_state_dict(load_tensors(path)[0])
        return module.to(self.runtime.device).eval()

    def _loop(
        self,
        stage: Stage,
        module: nn.Module,
        train_store: PairStore,
        val_store: PairStore | None,
        resumed: bool,
    ) -> StageLoop:
        settings, plan = loop_settings(self.plan.preset, stage.name), self.plan
        stepper = Stepper(
            stage,
            module,
            train_store,
            self.runtime,
            seed=plan.settings.seed,
            label_loss=plan.settings.label_loss,
            augmentation=settings.augment,
        )
        export_here = stage is plan.stages[-1] and stage.registers
        if export_here:
            build = discovery.resolve_import(plan.method.model, f"model of '{plan.method.name}'")
            check_registrar(
                plan.method,
                self._config(settings, stage, None, 0, 0, 0),
                self._registrar(module),
                build,
            )

        def best(state: State) -> None:
            save_tensors(
                self.folder / "stages" / f"{stage.name}.safetensors",
                module.state_dict(),
                {"format": "pt"},
            )
            if export_here:
                config = self._config(
                    settings,
                    stage,
                    state,
                    len(train_store.names),
                    len(train_store.items),
                    len(val_store.names) if val_store else 0,
                )
                export(
                    self._weights_folder(settings),
                    self._registrar(module),
                    config,
                    settings.storage,
                )

        around = Surroundings(
            self.folder, self.logs, self.stopper, self.options, self._registrar, best
        )
        loop = StageLoop(stepper, val_store, settings, around, plan.settings.seed)
        if resumed:
            loop.restore()
        return loop

    @staticmethod
    def _registrar(module: nn.Module) -> nn.Module:
        """The part of a stage's module that registers and is exported.

        A module that holds more than the method's model (a critic, say) has it as ``registrar``.
        """
        inner = getattr(module, "registrar", module)
        return inner if isinstance(inner, nn.Module) else module

    # -- results -------------------------------------------------------------------------------

    def _weights_folder(self, settings: LoopSettings) -> Path:
        return self.folder / "weights" / self._name(settings)

    def _name(self, settings: LoopSettings) -> str:
        if settings.name:
            return settings.name
        suffix = "-sup" if self.plan.settings.label_loss else ""
        return f"{self.plan.method.name}-{self.plan.settings.preset_name}{suffix}"

    def _config(
        self,
        settings: LoopSettings,
        stage: Stage,
        state: State | None,
        train_pairs: int,
        train_items: int,
        val_pairs: int,
    ) -> dict[str, Any]:
        chosen = self.plan.settings
        initial = chosen.init_weights
        facts = {
            "data": list(dict.fromkeys(reader_of(spec) for spec in chosen.data)),
            "train_pairs": train_pairs, "train_items": train_items, "val_pairs": val_pairs,
            "stage": stage.name, "steps": stage.steps, "batch": stage.batch,
            "lr": stage.optimisers[0].lr, "ema": stage.ema,
            "steps_done": state.step if state else 0,
            "best_step": state.best_step if state else -1,
            "seconds": round(state.seconds, 1) if state else 0.0,
            "validation": {k: round(v, 5) for k, v in state.best_figures.items()} if state else {},
            "device": _device_name(self.runtime.device), "precision": chosen.precision,
            "processes": chosen.processes, "seed": chosen.seed, "label_loss": chosen.label_loss,
            "init_weights": Path(initial).name if initial else None,
            "regtool": chosen.regtool, "torch": chosen.torch,
        }  # fmt: skip
        return make_config(
            self.plan.method,
            self._name(settings),
            chosen.preset_name,
            self.plan.preset,
            facts,
            chosen.data,
        )

    def _result(self, loop: StageLoop, ending: Ending) -> TrainResult:
        settings = loop_settings(self.plan.preset, loop.stage.name)
        weights = self._weights_folder(settings)
        state = loop.state
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


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
