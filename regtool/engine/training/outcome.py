"""What a stage leaves behind: its best weights in full, and those of the last stage exported."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regtool.engine.training.checkpoint import make_folder, save_tensors
from regtool.engine.training.export import describe, export, make_config, reader_of
from regtool.engine.training.frozen import fingerprints
from regtool.engine.training.plan import Plan
from regtool.engine.training.settings import LoopSettings
from regtool.engine.training.state import State
from regtool.engine.training.store import PairStore
from regtool.errors import PluginError
from regtool.paths import expanded, is_dir
from regtool.plugins import discovery
from regtool.plugins.training import Stage


def registrar_of(module: nn.Module) -> nn.Module:
    """The part of a stage's module that registers and is exported.

    A module that holds more than the method's model (a critic, say) has it as ``registrar``.
    """
    inner = getattr(module, "registrar", module)
    return inner if isinstance(inner, nn.Module) else module


class Outcome:
    """Keeps the best weights of one stage in the run folder."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        stage: Stage,
        settings: LoopSettings,
        module: nn.Module,
        train: PairStore,
        val: PairStore | None,
        device: torch.device,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._stage = stage
        self._settings = settings
        self._module = module
        self._counts = {
            "train_pairs": len(train.names),
            "train_items": len(train.items),
            "directions": settings.ways,
            "val_pairs": len(val.names) if val is not None else 0,
        }
        self._fields = train.field_statistics
        self._synthesis = settings.augment.synthesis if train.has_labels else 0.0
        self._held_out = _held_out(val) if settings.landmark_folds else []
        self._device = device
        self.exports = stage is plan.stages[-1] and stage.registers

    @property
    def weights(self) -> Path:
        """Where the exported weights go."""
        return self._folder / "weights" / self.name

    @property
    def name(self) -> str:
        """Name of the exported weights; ``-sup`` tells that labels helped."""
        if self._settings.name:
            return self._settings.name
        chosen = self._plan.settings
        suffix = "-sup" if chosen.label_loss or self._held_out else ""
        if self._held_out:
            suffix += f"-fold{self._settings.landmark_fold}of{self._settings.landmark_folds}"
        return f"{self._plan.method.name}-{chosen.preset_name}{suffix}"

    @cached_property
    def _frozen(self) -> dict[str, str]:
        """Fingerprints of the parts that the stage keeps, once its state is in the module."""
        return fingerprints(self._module, self._stage.freezes)

    def check(self) -> None:
        """Make sure before training that the weights will fit the method's model.

        Raises PluginError naming the first difference.
        """
        if not self.exports:
            return
        from regtool.weights import network_differences

        method = self._plan.method
        build = discovery.resolve_import(method.model, f"model of method '{method.name}'")
        trained = registrar_of(self._module).state_dict()
        found = network_differences(build(self._config(State(self._stage.name))), trained)
        if found:
            raise PluginError(
                f"method {method.name!r}: what its recipe trains does not fit its model: {found[0]}"
            )

    def keep(self, state: State) -> None:
        """Write the weights that are in the module now. Raises OutputError, UsageError."""
        file = stage_file(self._folder, self._stage)
        make_folder(file.parent)
        save_tensors(file, self._module.state_dict(), {"format": "pt"})
        if self.exports:
            make_folder(self.weights.parent)
            module = registrar_of(self._module)
            export(self.weights, module, self._config(state), self._settings.storage)

    def describe(self, state: State) -> None:
        """Bring config.json and card up to date when the stage ends; the weights stay.

        Raises OutputError.
        """
        if self.exports and (self.weights / "model.safetensors").exists():
            describe(self.weights, self._config(state), self._settings.storage)

    def _config(self, state: State) -> dict[str, Any]:
        chosen, stage = self._plan.settings, self._stage
        initial = chosen.init_weights
        facts = {
            "data": list(dict.fromkeys(reader_of(spec) for spec in chosen.data)),
            **self._counts,
            "stage": stage.name,
            "steps": stage.steps,
            "batch": stage.batch,
            "lr": stage.optimisers[0].lr if stage.optimisers else 0.0,
            "ema": stage.ema,
            "steps_done": state.step,
            "best_step": state.best_step,
            "seconds": round(state.seconds, 1),
            "validation": {k: round(v, 5) for k, v in state.best_figures.items()},
            "device": _device_name(self._device),
            "precision": chosen.precision,
            "processes": chosen.processes,
            "seed": chosen.seed,
            "label_loss": chosen.label_loss,
            "init_weights": Path(initial).name if initial else None,
            **({"landmarks": self._landmark_facts()} if self._held_out else {}),
            **({"synthesis": self._synthesis} if self._synthesis else {}),
            **({"frozen": self._frozen} if self._frozen else {}),
            **({"fields": self._field_facts()} if self._fields else {}),
            "regtool": chosen.regtool,
            "torch": chosen.torch,
        }
        return make_config(
            self._plan.method, self.name, chosen.preset_name, self._plan.preset, facts, chosen.data
        )

    def _landmark_facts(self) -> dict[str, Any]:
        """Which landmarks trained, and the pairs whose landmarks did not."""
        chosen = self._settings
        return {
            "folds": chosen.landmark_folds,
            "fold": chosen.landmark_fold,
            "held_out": self._held_out,
        }

    def _field_facts(self) -> dict[str, Any]:
        """Where the fields came from, without paths, and their statistics in voxels."""
        spec = str(self._settings.fields)
        name, _, weights = spec.partition("@")
        source = (
            "files" if is_dir(expanded(spec)) else name + (f"@{Path(weights).name}" * bool(weights))
        )
        return {"from": source, "options": self._settings.fields_options, **(self._fields or {})}


def _held_out(val: PairStore | None) -> list[str]:
    """Names of the validation pairs that have landmarks."""
    if val is None:
        return []
    return [val.names[item.pair] for item in val.items if item.points is not None]


def stage_file(folder: Path, stage: Stage) -> Path:
    """Where a stage's best weights lie, with all their digits."""
    return folder / "stages" / f"{stage.name}.safetensors"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
