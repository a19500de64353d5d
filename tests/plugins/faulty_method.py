"""Small methods with one fault each, named in ``config["network"]["fault"]``; "" has none."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import (
    Context,
    Field,
    Optimiser,
    Options,
    Pair,
    Prediction,
    Stage,
    StepOutput,
)
from regtool.api.losses import mse
from regtool.api.spatial import warp


class GoodOptions(Options):
    rounds: int = Field(1, ge=1, description="How often.")


class SilentOptions(Options):
    rounds: int = 1


class RequiredOptions(Options):
    rounds: int = Field(description="How often.")


class PlainOptions:
    pass


class Shift(nn.Module):
    """Phase correlation: right but for the fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.register_buffer("offset", torch.zeros(1))
        self.hidden = torch.rand(1)
        if fault == "builds at random":
            self.offset.fill_(random.random())

    def forward(self, pair: Pair, options: Any, context: Context) -> Prediction:
        fixed, moving = pair.fixed.image, pair.moving.image
        shift = self._shift(fixed, moving)
        shape = fixed.shape[2:]
        u = shift.reshape(*shift.shape, *[1] * len(shape)).expand(*shift.shape, *shape)
        u = self._spoil(u.clone() + self.offset, pair, context)
        if self.fault == "velocity":
            return Prediction(velocity=u)
        if self.fault == "tuple":
            return (u,)  # type: ignore[return-value]
        return Prediction() if self.fault == "empty" else Prediction(displacement=u)

    def _shift(self, fixed: Tensor, moving: Tensor) -> Tensor:
        axes = tuple(range(2, fixed.dim()))
        power = torch.fft.fftn(moving, dim=axes) * torch.fft.fftn(fixed, dim=axes).conj()
        least = 0.0 if self.fault == "divides by zero" else 1e-3
        correlation = torch.fft.ifftn(power / power.abs().clamp(min=least), dim=axes).real
        at = correlation.flatten(1).argmax(1)
        sizes = torch.tensor(fixed.shape[2:])
        index = torch.stack(torch.unravel_index(at, fixed.shape[2:]), dim=1)
        shift = torch.where(index > sizes // 2, index - sizes, index).to(fixed.dtype)
        return shift + correlation.sum() * 0

    def _spoil(self, u: Tensor, pair: Pair, context: Context) -> Tensor:
        size = torch.tensor(u.shape[2:], dtype=u.dtype).reshape(1, -1, *[1] * (u.dim() - 2))
        match self.fault:
            case "sign":
                return -u
            case "axes":
                return u.flip(1)
            case "normalised":
                return 2 * u / size
            case "channels last":
                return u.movedim(1, -1)
            case "double":
                return u.double()
            case "global random":
                return u + torch.rand(1)
            case "undeclared samples":
                return u + torch.rand(1, generator=context.generator)
            case "default dtype":
                return u * torch.ones(1)
            case "hidden state":
                return u + self.hidden
            case "in place":
                pair.moving.image.add_(0.01)
            case "gradient":
                with torch.enable_grad():
                    return u * torch.ones(1, dtype=u.dtype, requires_grad=True)
            case "counts":
                self.offset.add_(1)
        return u


class Bend(nn.Module):
    """One parameter an axis: the shift itself."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(ndim))
        self.idle = nn.Parameter(torch.zeros(1))

    def forward(self, pair: Pair, options: Any, context: Context) -> Prediction:
        shape = pair.fixed.image.shape
        u = self.shift.reshape(1, -1, *[1] * (len(shape) - 2))
        return Prediction(displacement=u.expand(shape[0], -1, *shape[2:]).clone())


def build(config: Mapping[str, Any]) -> nn.Module:
    return Shift(config["network"]["fault"])


def build_bend(config: Mapping[str, Any]) -> nn.Module:
    return Bend(config["ndim"])


def build_nothing(config: Mapping[str, Any]) -> Any:
    return lambda pair, options, context: None


def recipe(config: Mapping[str, Any]) -> Any:
    fault = config["network"]["fault"]

    def step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        u = module(pair, None, context).displacement
        loss = mse(pair.fixed.image, warp(pair.moving.image, -u if fault == "warps back" else u))
        changed = {
            "vector": loss.reshape(1),
            "nan": loss * float("nan"),
            "detached": loss.detach(),
            "zero": loss * 0,
        }.get(fault, loss)
        terms = {} if fault == "no terms" else {"similarity": changed}
        return terms if fault == "mapping" else StepOutput(terms)  # type: ignore[return-value]

    rate = {"kind": "SGD", "lr": 50.0}
    optimisers = {
        "no optimiser": (),
        "idle": (Optimiser(**rate, parameters=("idle",)),),
        "owns nothing": (Optimiser(**rate, parameters=("nowhere",)),),
        "same name": (Optimiser(**rate), Optimiser(**rate)),
    }.get(fault, (Optimiser(**rate),))
    freezes = ("nowhere.",) if fault == "freezes nothing" else ()
    stage = Stage(
        "all", lambda config, upstream: build_bend(config), step, optimisers, 10, freezes=freezes
    )
    return {"no stage": (), "twice": (stage, stage), "one": stage}.get(fault, (stage,))
