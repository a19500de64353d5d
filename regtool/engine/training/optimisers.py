"""The optimisers of a stage: whose parameters, at which rate, clipped how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regtool.engine.training.schedule import factor
from regtool.errors import PluginError
from regtool.plugins.training import Optimiser, Stage


def has_prefix(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name lies at or below one of ``prefixes`` (``net`` covers ``net.0.weight``).

    A prefix that ends in a dot or stops within a component also counts, as in plain startswith.
    """
    return any(name.startswith(prefix) for prefix in prefixes)


def freeze(module: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Take gradients from the parameters under ``prefixes``. Raises PluginError on a vain one."""
    for prefix in prefixes:
        found = [p for n, p in module.named_parameters() if n.startswith(prefix)]
        if not found:
            raise PluginError(f"stage freezes {prefix!r}, but no parameter's name starts so")
        for parameter in found:
            parameter.requires_grad_(False)


def train_mode(module: nn.Module, frozen: tuple[str, ...]) -> None:
    """Training mode everywhere but in the frozen parts, which stay in eval mode."""
    module.train()
    for name, child in module.named_modules():
        if name and has_prefix(name + ".", tuple(p.rstrip(".") + "." for p in frozen)):
            child.eval()


class Turn:
    """One optimiser at work: its torch optimiser, parameters, schedule and clipping."""

    def __init__(
        self, spec: Optimiser, module: nn.Module, total: int, device: torch.device
    ) -> None:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        for prefix in spec.parameters:
            if not any(n.startswith(prefix) for n, _ in named):
                raise PluginError(
                    f"optimiser {spec.name!r} asks for parameters {prefix!r}, but no trainable "
                    "parameter's name starts so"
                )
        chosen = [p for n, p in named if not spec.parameters or has_prefix(n, spec.parameters)]
        if not chosen:
            raise PluginError(f"optimiser {spec.name!r} has no trainable parameter")
        self.spec = spec
        self.total = total
        self.parameters = chosen
        ours = {id(p) for p in chosen}
        self._others = [p for _, p in named if id(p) not in ours]
        self.torch = _build(spec, chosen, device)

    def rate(self, step: int) -> float:
        """Learning rate at ``step``."""
        return self.spec.lr * factor(self.spec.schedule, step, self.total)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let gradients reach this optimiser's parameters only (they still flow through others)."""
        for parameter in self._others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self._others:
                parameter.requires_grad_(True)

    def step(
        self, step: int, scaler: Any = None, average: Callable[[list[Tensor]], None] | None = None
    ) -> Tensor:
        """Apply the gradients that ``backward`` left; ``average`` makes them equal on all ranks.

        Returns the Euclidean norm of the whole gradient, before it is clipped.
        """
        for group in self.torch.param_groups:
            group["lr"] = self.rate(step)
        if average is not None:
            average([_gradient(p) for p in self.parameters])
        if scaler is not None:
            scaler.unscale_(self.torch)
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self.parameters if p.grad is not None]
        )
        if self.spec.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.spec.clip_norm, norm)
        if scaler is not None:
            scaler.step(self.torch)
        else:
            self.torch.step()
        return norm


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _build(
    spec: Optimiser, parameters: list[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    kinds = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}
    if spec.kind not in kinds:
        raise PluginError(f"optimiser {spec.name!r}: unknown kind {spec.kind!r}")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.arguments.items()}
    if device.type in ("cpu", "cuda") and not arguments.keys() & {"fused", "foreach", "capturable"}:
        arguments["fused"] = True  # one kernel instead of a Python loop over parameters
    try:
        return kinds[spec.kind](parameters, lr=spec.lr, **arguments)
    except (TypeError, ValueError) as error:
        raise PluginError(f"optimiser {spec.name!r}: {error}") from error


def make_turns(stage: Stage, module: nn.Module, total: int, device: torch.device) -> list[Turn]:
    """The optimisers of a stage, in their order. Raises PluginError on repeated names."""
    names = [o.name for o in stage.optimisers]
    if not names or len(set(names)) != len(names):
        raise PluginError(f"stage {stage.name!r}: optimisers need distinct names, got {names}")
    return [Turn(o, module, total, device) for o in stage.optimisers]
