"""Training of DiffuseReg: one stage, which needs fields unless the preset has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from regtool.api.train import Optimiser, Schedule, Stage, choice
from regtool_diffusereg.loss import DenoisingLoss
from regtool_diffusereg.model import PREDICTS, build


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage ``denoiser``. Raises UsageError for words that nothing knows."""
    choice(preset["network"], "predicts", PREDICTS, within="network")
    settings = preset["training"]

    def make(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        return build(config)

    optimiser = Optimiser(
        lr=float(settings["lr"]),
        kind="AdamW",
        arguments={"weight_decay": float(settings["weight_decay"])},
        schedule=Schedule(**settings["schedule"]),
        clip_norm=settings["clip"],
    )
    return (
        Stage(
            name="denoiser",
            build=make,
            step=DenoisingLoss(settings),
            optimisers=(optimiser,),
            steps=int(settings["steps"]),
            batch=int(settings["batch"]),
            ema=settings["ema"],
            needs=("fields",) if settings.get("fields") else (),
        ),
    )
