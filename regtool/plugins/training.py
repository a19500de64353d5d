"""How a plugin describes its training: stages, optimisers, schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from regtool.plugins.exchange import Context, Pair, Prediction

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """Learning rate as a factor of the base rate, a pure function of the step.

    ``constant``; ``step``: times ``gamma`` at each of ``milestones`` (fractions of all steps);
    ``poly``: (1 - t)**power; ``cosine``: half a cosine to ``floor``. ``warmup`` counts steps of
    linear increase from zero.
    """

    kind: Literal["constant", "step", "poly", "cosine"] = "constant"
    warmup: int = 0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    power: float = 0.9
    floor: float = 0.0


@dataclass(frozen=True)
class Optimiser:
    """One optimiser of a stage. ``parameters`` are name prefixes; empty means all trainable ones.

    ``kind`` names a class of torch.optim; ``arguments`` go to it beside the learning rate.
    """

    lr: float
    name: str = "main"
    kind: Literal["Adam", "AdamW", "SGD"] = "Adam"
    parameters: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule = Schedule()
    clip_norm: float | None = None


@dataclass
class StepOutput:
    """Losses of one training step; the engine minimises the sum of ``terms`` (already weighted).

    ``prediction`` lets the engine add what it owns, such as the label loss.
    """

    terms: dict[str, Tensor]
    prediction: Prediction | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of a method's training.

    ``build(config, upstream)`` makes the module; ``upstream`` holds the finished modules of earlier
    stages by stage name. ``step(module, pair, context)`` is called once per optimiser and step,
    with ``context.optimiser`` saying whose turn it is. ``freezes`` are name prefixes kept in eval
    mode without gradients. ``needs`` names inputs from elsewhere: ``"fields"`` asks for
    ``pair.field``, a displacement that the method or folder of the preset's ``training["fields"]``
    gives for each pair; ``config["fields"]`` of ``build`` then holds ``mean`` and ``std`` of each
    component over the training pairs, in voxels.
    ``registers`` tells whether the module registers by itself, so that it can be validated with
    Dice; otherwise its loss on validation pairs is used.
    """

    name: str
    build: Callable[[Mapping[str, Any], Mapping[str, nn.Module]], nn.Module]
    step: Callable[[nn.Module, Pair, Context], StepOutput]
    optimisers: tuple[Optimiser, ...]
    steps: int
    batch: int = 1
    ema: float | None = None
    freezes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    registers: bool = True
