"""The check that a field points the right way: sign, axis and units of a known shift."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.plugins.exchange import Pair
from regtool.testing.pairs import SHIFTS, inside, shifted_pair
from regtool.testing.subject import Subject, total_displacement
from regtool.testing.training import overfit, runnable, stages, start

COSINE = 0.6
"""Least agreement of the mean displacement with the shift; a small network reaches 0.99."""

FAINT_COSINE = 0.98
"""The same for an answer of less than a tenth of the way."""

FAINTEST = 0.045
"""Less of the way is what normalised units look like: 2 / (n - 1) of it on 64 voxels is 0.032."""


def check_direction(subject: Subject) -> None:
    """A pair shifted by whole voxels is answered along the right axes with the right signs.

    A method with weights here, or without parameters, answers at once; a network without weights
    is first trained on that very pair by its own recipe.
    """
    for ndim in sorted({config["ndim"] for config in subject.cases}):
        config, found = _answer(subject, ndim)
        if found is None:
            continue
        _check_answer(found, SHIFTS[ndim], f"preset '{config.get('preset')}', {ndim}-D")


def _answer(subject: Subject, ndim: int) -> tuple[Mapping[str, Any], Tensor | None]:
    """Mean displacement inside the object, or None when the method cannot be tried here."""
    trained = subject.trained(ndim) if subject.preset is None else None
    if trained is not None:
        config, module = trained
        pair = shifted_pair(subject.shape(config), SHIFTS[ndim])
        return config, _mean(subject, module, pair)
    config = next(case for case in subject.cases if case["ndim"] == ndim)
    pair = shifted_pair(subject.shape(config), SHIFTS[ndim])
    module = subject.build(config)
    if subject.method.recipe is None:
        return config, _free(subject, config, module, pair)
    return config, _learnt(subject, config, pair)


def _free(
    subject: Subject, config: Mapping[str, Any], module: nn.Module, pair: Pair
) -> Tensor | None:
    """The answer of a method without training; None where it has nothing to answer with."""
    if any(True for _ in module.parameters()):
        return None  # a network with neither weights nor a recipe
    mean = _mean(subject, module, pair)
    aligned = config["preparation"].get("initial", "none") != "none"
    # Where core's initial alignment is the whole method, as in rigid and affine, nothing moves.
    return None if aligned and not mean.any() else mean


def _learnt(subject: Subject, config: Mapping[str, Any], pair: Pair) -> Tensor | None:
    """Train stage after stage on the pair; the answer of the last that registers."""
    upstream: dict[str, nn.Module] = {}
    answer = None
    for stage in runnable(stages(subject, config)):
        module = start(stage, config, upstream)
        if not stage.registers:
            overfit(stage, module, pair, max(1, subject.steps // 4))
        else:

            def done(module: nn.Module = module) -> bool:
                return _agrees(_mean(subject, module, pair), SHIFTS[config["ndim"]])

            overfit(stage, module, pair, subject.steps, done)
            answer = _mean(subject, module, pair)
        upstream[stage.name] = module.eval()
    return answer


def _mean(subject: Subject, module: nn.Module, pair: Pair) -> Tensor:
    field = total_displacement(subject.register(module, pair), tuple(pair.fixed.image.shape[2:]))
    return (field.detach() * inside(pair)).flatten(2).sum(-1)[0] / inside(pair)[0].sum()


def _agrees(mean: Tensor, shift: tuple[int, ...]) -> bool:
    """Whether no other order or sign of the shift's components fits the field better."""
    wanted = torch.tensor(shift, dtype=mean.dtype)
    orders = itertools.permutations(range(len(shift)))
    signs = list(itertools.product((1.0, -1.0), repeat=len(shift)))
    others = torch.stack(
        [wanted[list(o)] * torch.tensor(s).to(wanted) for o in orders for s in signs]
    )
    fits = others @ mean
    # The first is the shift itself. A tenth of the way is more than a chance tilt; weights that
    # know one anatomy only may hardly follow this pair, but then point all the more exactly.
    way = float(mean.norm()) / float(wanted.norm())
    cosine = float(torch.nn.functional.cosine_similarity(mean, wanted, dim=0))
    clear = cosine >= COSINE if way > 0.1 else way > FAINTEST and cosine >= FAINT_COSINE
    return clear and int(fits.argmax()) == 0


def _check_answer(mean: Tensor, shift: tuple[int, ...], what: str) -> None:
    given = ", ".join(f"{float(value):.2f}" for value in mean)
    assert _agrees(mean, shift), (
        f"{what}: the moving image is shifted by {shift} voxels along the tensor axes, so "
        f"moving(x + u) = fixed(x) for u = {shift}, but the mean displacement inside the object is "
        f"({given}); check sign, component order (component i along tensor axis i) and units"
    )
