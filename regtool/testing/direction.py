"""The check that a field points the right way: sign, axis and units of a known shift."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regtool.plugins.exchange import Pair
from regtool.testing.pairs import SHIFTS, inside, shifted_pair
from regtool.testing.subject import Subject, default_weights, total_displacement
from regtool.testing.training import overfit, runnable, stages, start

COSINE = 0.6
"""Least agreement of the mean displacement with the shift; a small network reaches 0.99."""

FAINT_COSINE = 0.98
"""The same for an answer of less than a tenth of the way."""

FAINTEST = 0.045
"""Less of the way is what normalised units look like: 2 / (n - 1) of it on 64 voxels is 0.032."""

WEAK = 0.25
"""Weights that go less of the way have not followed this pair, and tell nothing of directions."""


def check_direction(subject: Subject, *, retrain: bool = True) -> None:
    """A pair shifted by whole voxels is answered along the right axes with the right signs.

    A method with weights here, or without parameters, answers at once; a network without weights
    is first trained on that very pair by its own recipe. So is, with ``retrain``, one whose weights
    hardly follow the pair: the conventions are checked, not how much the weights have learnt.
    """
    for ndim in sorted({config["ndim"] for config in subject.cases}):
        found = _by_weights(subject, ndim) if subject.preset is None else None
        if found is not None and retrain and subject.method.recipe is not None:
            mean, _ = found
            if not _agrees(mean, SHIFTS[ndim]) and _way(mean, SHIFTS[ndim]) < WEAK:
                found = None
        found = found or _by_preset(subject, ndim)
        if found is not None:
            _check_answer(found[0], SHIFTS[ndim], f"{found[1]}, {ndim}-D")


def _by_weights(subject: Subject, ndim: int) -> tuple[Tensor, str] | None:
    """Mean displacement inside the object by the default weights, and which these are."""
    trained, found = subject.trained(ndim), default_weights(subject.method, ndim)
    if trained is None or found is None:
        return None
    config, module = trained
    pair = shifted_pair(subject.shape(config), SHIFTS[ndim])
    return _mean(subject, module, pair), f"weights '{found.name}' ({found.folder})"


def _by_preset(subject: Subject, ndim: int) -> tuple[Tensor, str] | None:
    """The same without weights, by training where there is a recipe; None if it cannot be tried."""
    config = next(case for case in subject.cases if case["ndim"] == ndim)
    pair = shifted_pair(subject.shape(config), SHIFTS[ndim])
    label = f"preset '{config.get('preset')}'"
    if subject.method.recipe is None:
        mean = _free(subject, config, subject.build(config), pair)
    else:
        mean = _learnt(subject, config, pair)
        label += ", trained on the pair itself"
    return None if mean is None else (mean, label)


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
    way = _way(mean, shift)
    cosine = float(torch.nn.functional.cosine_similarity(mean, wanted, dim=0))
    clear = cosine >= COSINE if way > 0.1 else way > FAINTEST and cosine >= FAINT_COSINE
    return clear and int(fits.argmax()) == 0


def _way(mean: Tensor, shift: tuple[int, ...]) -> float:
    """Length of the mean displacement as a share of the shift's."""
    return float(mean.norm()) / math.hypot(*shift)


def _check_answer(mean: Tensor, shift: tuple[int, ...], what: str) -> None:
    given = ", ".join(f"{float(value):.2f}" for value in mean)
    assert _agrees(mean, shift), (
        f"{what}: the moving image is shifted by {shift} voxels along the tensor axes, so "
        f"moving(x + u) = fixed(x) for u = {shift}, but the mean displacement inside the object is "
        f"({given}); check sign, component order (component i along tensor axis i) and units"
    )
