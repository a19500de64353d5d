"""One training step: seeds, batch, every optimiser's turn, the label loss, the moving average."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from regtool.data.augment import Augment, augment
from regtool.data.patches import random_patch
from regtool.engine.training.checkpoint import optimiser_tensors, restore_optimiser
from regtool.engine.training.ema import Ema
from regtool.engine.training.method_code import check_output
from regtool.engine.training.optimisers import Turn, freeze, make_turns, train_mode
from regtool.engine.training.runtime import Runtime
from regtool.engine.training.seeds import derive, seed_globally
from regtool.engine.training.settings import NO_AUGMENT
from regtool.engine.training.store import Order, PairStore
from regtool.engine.training.validate import displacement_of
from regtool.errors import PluginError
from regtool.losses.dice import soft_dice
from regtool.nn.precision import protect_convolutions
from regtool.plugins.charge import charged
from regtool.plugins.exchange import Context, Pair
from regtool.plugins.training import Stage, StepOutput


class Stepper:
    """A stage's module with its optimisers; everything that changes from step to step.

    The batch, its augmentation and all random numbers of a step follow from (seed, stage, step,
    rank), so a step can be repeated in another process exactly.
    """

    def __init__(
        self,
        stage: Stage,
        module: nn.Module,
        store: PairStore,
        runtime: Runtime,
        *,
        seed: int,
        label_loss: float = 0.0,
        augmentation: Augment | None = None,
        both: bool = True,
        patch: tuple[int, ...] | None = None,
    ) -> None:
        self.stage = stage
        self.module = module.to(runtime.device)
        if runtime.precision == "bf16":
            protect_convolutions(module)
        self.runtime = runtime
        self.store = store
        self._seed = seed
        self._label_loss = label_loss
        self._augmentation = None if augmentation == NO_AUGMENT else augmentation
        self._patch = patch
        freeze(module, stage.freezes)
        self.turns = make_turns(stage, module, stage.steps, runtime.device)
        self.ema = Ema(module, stage.ema) if stage.ema else None
        self.order = Order(store.items, stage.batch, seed, stage.name, both)
        self._generator = torch.Generator(runtime.device)
        self._scaler = runtime.accelerator.scaler

    def prepare(self) -> None:
        """Put the module into training mode, its frozen parts excepted."""
        train_mode(self.module, self.stage.freezes)

    def rate(self, step: int) -> float:
        """Learning rate of the first optimiser."""
        return self.turns[0].rate(step)

    def step(self, number: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make step ``number``; returns its losses, detached, and the norms of its gradients.

        Raises PluginError.
        """
        runtime = self.runtime
        seed = derive(self._seed, self.stage.name, "step", number, runtime.rank)
        seed_globally(seed)
        self._generator.manual_seed(seed)
        entries = self.order.entries(number)[runtime.rank :: runtime.world]
        pair = self.store.batch(entries, runtime.device)
        if self._augmentation is not None:
            pair = augment(pair, self._augmentation, self._generator)
        if self._patch is not None:
            pair = random_patch(pair, self._patch, self._generator)
        context = Context(self._generator, runtime.device, step=number, training=True)
        losses: dict[str, Tensor] = {}
        norms: dict[str, Tensor] = {}
        for turn in self.turns:
            losses |= self._turn(turn, pair, context, norms)
        if self._scaler is not None:
            self._scaler.update()
        if self.ema is not None:
            self.ema.update()
        return losses, norms

    def _turn(
        self, turn: Turn, pair: Pair, context: Context, norms: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """One optimiser's losses; the norm of its gradient goes into ``norms``."""
        context.optimiser = turn.spec.name
        several = len(self.turns) > 1
        prefix = f"{turn.spec.name}." if several else ""
        with turn.active() if several else nullcontext():
            with self.runtime.accelerator.autocast():
                output = self._called(pair, context)
            terms = self._all_terms(output, pair)
            if not terms:
                return {}  # a method may leave an optimiser out of a step
            total = torch.stack([term.float() for term in terms.values()]).sum()
            if not total.requires_grad:
                raise PluginError(
                    f"stage {self.stage.name!r}, optimiser {turn.spec.name!r}: the loss does not "
                    "depend on any parameter of that optimiser"
                )
            turn.torch.zero_grad(set_to_none=True)
            alone = self.runtime.world == 1 and total.device.type == "cpu"
            if alone and not torch.isfinite(total):
                # The loop ends here. On the CPU the gradient of torch's grid_sample at positions
                # that are no numbers reads beyond its memory, and the process would die.
                return {f"{prefix}loss": total.detach()}
            self.runtime.accelerator.backward(total)
        average = self.runtime.average_gradients if self.runtime.world > 1 else None
        norms[f"{prefix}gradient_norm"] = turn.step(context.step, self._scaler, average)
        return {f"{prefix}loss": total.detach()} | {
            f"{prefix}{name}": term.detach() for name, term in terms.items() if len(terms) > 1
        }

    def _called(self, pair: Pair, context: Context) -> StepOutput:
        """What the method's step returns. Raises PluginError."""
        label = f"step of stage {self.stage.name!r}"
        with charged(label):
            output = self.stage.step(self.module, pair, context)
        check_output(output, label)
        return output

    def _all_terms(self, output: StepOutput, pair: Pair) -> dict[str, Tensor]:
        terms = dict(output.terms)
        fixed, moving = pair.fixed.labels, pair.moving.labels
        wanted = self._label_loss > 0 and terms and output.prediction is not None
        if wanted and output.prediction is not None and fixed is not None and moving is not None:
            moved = displacement_of(output.prediction)
            terms["label"] = self._label_loss * soft_dice(fixed, moving, moved)
        return terms

    def loss(self, pair: Pair, context: Context) -> float:
        """The first optimiser's loss on a pair, without a step; for validation."""
        context.optimiser = self.turns[0].spec.name
        with torch.no_grad(), self.runtime.accelerator.autocast():
            terms = self._called(pair, context).terms
        return float(torch.stack([term.float() for term in terms.values()]).sum())

    def averaged(self) -> AbstractContextManager[None]:
        """The moving average in the weights' place, where the stage keeps one."""
        return self.ema.applied() if self.ema is not None else nullcontext()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Everything a checkpoint has to hold, by group."""
        parts = {"model": dict(self.module.state_dict())}
        for turn in self.turns:
            parts[f"optimiser:{turn.spec.name}"] = optimiser_tensors(turn.torch)
        if self.ema is not None:
            parts["ema"] = dict(self.ema.shadow)
        return parts

    def numbers(self) -> dict[str, Any]:
        """What a checkpoint has to hold beside tensors."""
        return {
            "ema_updates": self.ema.updates if self.ema is not None else 0,
            "scaler": self._scaler.state_dict() if self._scaler is not None else {},
        }

    def restore(
        self, parts: Mapping[str, Mapping[str, Tensor]], numbers: Mapping[str, Any]
    ) -> None:
        """Put back what ``tensors`` and ``numbers`` gave."""
        self.module.load_state_dict(dict(parts["model"]))
        for turn in self.turns:
            restore_optimiser(turn.torch, parts.get(f"optimiser:{turn.spec.name}", {}))
        if self.ema is not None:
            self.ema.load(parts["ema"], numbers["ema_updates"])
        if self._scaler is not None and numbers["scaler"]:
            self._scaler.load_state_dict(numbers["scaler"])

    @property
    def sound(self) -> bool:
        """Whether all weights are numbers."""
        weights = (v for v in self.module.state_dict().values() if v.is_floating_point())
        return all(bool(torch.isfinite(v).all()) for v in weights)
