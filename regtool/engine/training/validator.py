"""Validation of a stage: figures of every held-out pair, shared among the processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from regtool.engine.training import validate as validation
from regtool.engine.training.seeds import derive, seed_globally
from regtool.engine.training.stepper import Stepper
from regtool.engine.training.stop import Stopper
from regtool.engine.training.store import PairStore
from regtool.errors import PluginError
from regtool.plugins.charge import charged
from regtool.plugins.exchange import Context, Pair, Prediction
from regtool.prepare.preparation import Preparation


class Validator:
    """Looks at validation pairs with the averaged weights, where the stage averages them.

    ``registrar(module)`` is the part of the stage's module that registers, with the method's own
    ``options``; ``preparation`` says whether pairs go through it in tiles. ``select`` is the
    figure that picks the best weights.
    """

    def __init__(
        self,
        store: PairStore,
        stepper: Stepper,
        stopper: Stopper,
        *,
        registrar: Callable[[nn.Module], nn.Module],
        options: Any,
        preparation: Preparation,
        select: str | None,
        seed: int,
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._stopper = stopper
        self._registrar = registrar
        self._options = options
        self._preparation = preparation
        self._select = select
        self._seed = seed

    def figures(self, step: int) -> dict[str, float] | None:
        """Mean figures over the pairs at ``step``, or None when asked to stop meanwhile.

        Leaves the module in eval mode.
        """
        runtime = self._stepper.runtime
        rows = []
        self._stepper.module.eval()
        with torch.no_grad(), self._stepper.averaged():
            for number in range(runtime.rank, len(self._store.names), runtime.world):
                if runtime.world == 1 and self._stopper.reason is not None:
                    return None
                rows.append(self._one_pair(number, step))
        if runtime.world > 1:
            from accelerate.utils import gather_object

            rows = gather_object(rows)
        return validation.average(rows)

    def score(self, figures: dict[str, float]) -> float:
        """What the best weights maximise."""
        return validation.score(figures, self._select)

    def judged(self, figures: dict[str, float]) -> str:
        """The figure that picks the best weights, with its name: ``dice 0.8123``."""
        name = validation.judge(figures, self._select)
        return f"{name} {figures[name]:.4f}"

    def _one_pair(self, number: int, step: int) -> dict[str, float]:
        stage, device = self._stepper.stage, self._stepper.runtime.device
        seed = derive(self._seed, stage.name, "val", number)
        seed_globally(seed)
        generator = torch.Generator(device).manual_seed(seed)
        indices = self._store.of_pair(number)
        figures: dict[str, float] = {}
        if stage.registers:
            context = Context(generator, device, step=step)
            register = validation.as_prepared(self._register, self._preparation)
            figures = validation.validate_pair(self._store, indices, stage.batch, context, register)
        if "dice" not in figures or self._select == "loss":
            context = Context(generator, device, step=step, training=True)
            figures |= validation.loss_of_pair(
                self._store, indices, stage.batch, context, self._stepper.loss
            )
        return figures

    def _register(self, pair: Pair, context: Context) -> Prediction:
        registrar = self._registrar(self._stepper.module)
        label = f"model of stage {self._stepper.stage.name!r}"
        with charged(label), self._stepper.runtime.accelerator.autocast():
            answer: object = registrar(pair, self._options, context)
        if not isinstance(answer, Prediction):
            raise PluginError(f"{label} returned {type(answer).__name__}, not a Prediction")
        field = answer.velocity if answer.displacement is None else answer.displacement
        shape = pair.fixed.image.shape
        wanted = (shape[0], len(shape) - 2, *shape[2:])
        if field is not None and tuple(field.shape) != wanted:
            raise PluginError(f"{label} returned a field {tuple(field.shape)}, due is {wanted}")
        return answer
