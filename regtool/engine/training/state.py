"""Where a stage is: what its checkpoint holds beside tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from regtool.engine.training.checkpoint import load_checkpoint
from regtool.errors import InputError, UsageError

CHECKPOINT = "checkpoint.safetensors"


class DivergedError(UsageError):
    """The loss or the weights stopped being numbers: these settings do not train."""


@dataclass
class State:
    """What a checkpoint holds beside tensors: where the stage is and how it did so far.

    ``validated`` is the last validated step; ``stale`` counts validations without gain;
    ``data`` is the fingerprint of the training pairs, ``frozen`` those of the parts that an earlier
    stage trained and this one keeps.
    """

    stage: str
    data: str = ""
    frozen: dict[str, str] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    validated: int = -1
    best: float | None = None
    best_step: int = -1
    best_figures: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    early: bool = False
    window: dict[str, list[float]] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], State]:
    """The tensors of a checkpoint by group, and the stage's state. Raises InputError."""
    parts, values = load_checkpoint(path)
    try:
        return parts, TypeAdapter(State).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: a damaged checkpoint: {where}: {first['msg']}") from error
