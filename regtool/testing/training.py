"""Checks of a method's training recipe, and the small training that they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.engine.training.optimisers import freeze, has_prefix, train_mode
from regtool.nn.convolution import hasten_convolutions
from regtool.plugins import discovery
from regtool.plugins.exchange import Pair
from regtool.plugins.training import Optimiser, Stage, StepOutput
from regtool.testing.pairs import SHIFTS, shifted_pair
from regtool.testing.subject import Subject, context


def check_recipe(subject: Subject) -> None:
    """The recipe of every preset is a sequence of well-formed stages."""
    if subject.method.recipe is None:
        return
    for name, config in subject.presets.items():
        found = stages(subject, config)
        assert found, f"preset '{name}': the recipe has no stage"
        names = [stage.name for stage in found]
        assert len(set(names)) == len(names), f"preset '{name}': stages share a name: {names}"
        for stage in found:
            assert stage.steps > 0 and stage.batch > 0, f"stage '{stage.name}': steps or batch"
            owners = [optimiser.name for optimiser in stage.optimisers]
            assert owners, f"stage '{stage.name}' has no optimiser"
            assert len(set(owners)) == len(owners), f"stage '{stage.name}': {owners}"


def check_losses(subject: Subject) -> None:
    """Each stage's losses are finite scalars that move the parameters of its optimisers."""
    if subject.method.recipe is None:
        return
    for config in subject.cases:
        upstream: dict[str, nn.Module] = {}
        pair = shifted_pair(subject.shape(config), SHIFTS[config["ndim"]], batch=2)
        for stage in runnable(stages(subject, config)):
            module = start(stage, config, upstream)
            for optimiser in stage.optimisers:
                _check_step(stage, module, optimiser, pair)
            upstream[stage.name] = module.eval()


def stages(subject: Subject, config: Mapping[str, Any]) -> tuple[Stage, ...]:
    """What the method's recipe answers for one configuration."""
    assert subject.method.recipe is not None
    found = discovery.resolve_import(subject.method.recipe, "recipe")(config)
    assert isinstance(found, (tuple, list)), f"the recipe returned {type(found).__name__}"
    for stage in found:
        assert isinstance(stage, Stage), f"the recipe holds {type(stage).__name__}, not Stage"
    return tuple(found)


def runnable(found: tuple[Stage, ...]) -> list[Stage]:
    """The stages up to the first that needs an input which only a real run has.

    Fields are at hand: the test pairs know their own.
    """
    unmet = [set(stage.needs) - {"fields"} for stage in found]
    first = next((i for i, needs in enumerate(unmet) if needs), len(found))
    return list(found[:first])


def start(stage: Stage, config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
    """Build a stage's module ready for training, its frozen parts in evaluation mode."""
    if "fields" in stage.needs:  # as if both directions of the test pair were the data
        shift = [float(abs(s)) for s in SHIFTS[config["ndim"]]]
        config = {**config, "fields": {"mean": [0.0] * len(shift), "std": shift}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = stage.build(config, upstream)
    assert isinstance(module, nn.Module), f"stage '{stage.name}' built {type(module).__name__}"
    names = [name for name, _ in module.named_parameters()]
    for prefix in stage.freezes:
        assert any(name.startswith(prefix) for name in names), (
            f"stage '{stage.name}' freezes '{prefix}', which no parameter's name begins with"
        )
    hasten_convolutions(module)
    train(stage, module)
    return module


def train(stage: Stage, module: nn.Module) -> None:
    """Put a module into training mode, with the stage's frozen parts out of it."""
    train_mode(module, stage.freezes)
    freeze(module, stage.freezes)


def owned(module: nn.Module, optimiser: Optimiser) -> list[nn.Parameter]:
    """The trainable parameters that one optimiser moves."""
    return [
        parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
        and (not optimiser.parameters or has_prefix(name, optimiser.parameters))
    ]


def overfit(
    stage: Stage,
    module: nn.Module,
    pair: Pair,
    steps: int,
    done: Callable[[], bool] = lambda: False,
    every: int = 10,
) -> bool:
    """Train on one pair alone until ``done()`` or for ``steps`` steps; tell whether it was done.

    The learning rate is at least 1e-3: one pair is to be learnt quickly, not well.
    """
    workers = {
        o.name: getattr(torch.optim, o.kind)(
            owned(module, o), **{**o.arguments, "lr": max(o.lr, 1e-3)}
        )
        for o in stage.optimisers
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for step in range(steps):
            if step and step % every == 0 and done():
                return True
            train(stage, module)
            for optimiser in stage.optimisers:
                worker = workers[optimiser.name]
                worker.zero_grad()
                _loss(stage, module, optimiser, pair, step).backward()
                if optimiser.clip_norm is not None:
                    nn.utils.clip_grad_norm_(owned(module, optimiser), optimiser.clip_norm)
                worker.step()
    return done()


def _loss(stage: Stage, module: nn.Module, optimiser: Optimiser, pair: Pair, step: int) -> Tensor:
    surroundings = context(seed=step, step=step, optimiser=optimiser.name)
    surroundings.training = True
    output = stage.step(module, pair, surroundings)
    what = f"stage '{stage.name}', optimiser '{optimiser.name}'"
    assert isinstance(output, StepOutput), f"{what}: the step returned {type(output).__name__}"
    assert output.terms, f"{what}: the step returned no loss"
    for name, term in output.terms.items():
        assert isinstance(term, Tensor) and term.dim() == 0, f"{what}: '{name}' is not a scalar"
        assert math.isfinite(float(term.detach())), f"{what}: '{name}' is {float(term.detach())}"
    total = torch.stack(list(output.terms.values())).sum()
    assert total.requires_grad, f"{what}: the loss does not depend on any trainable parameter"
    return total


def _check_step(stage: Stage, module: nn.Module, optimiser: Optimiser, pair: Pair) -> None:
    what = f"stage '{stage.name}', optimiser '{optimiser.name}'"
    parameters = owned(module, optimiser)
    assert parameters, f"{what}: no trainable parameter has a name that begins so"
    module.zero_grad()
    _loss(stage, module, optimiser, pair, step=0).backward()
    gradients = [p.grad for p in parameters if p.grad is not None]
    assert gradients, f"{what}: the loss reaches none of its parameters"
    assert all(torch.isfinite(g).all() for g in gradients), f"{what}: a gradient is not finite"
    assert any(g.abs().max() > 0 for g in gradients), f"{what}: every gradient is zero"
