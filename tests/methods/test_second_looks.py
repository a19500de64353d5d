"""After a second look a step's prediction goes the whole way: labels are those of the pair."""

from __future__ import annotations

import copy

import pytest
import torch

from regtool.api import Context, Pair, Sample
from regtool.api.train import chance, second_look
from regtool.plugins import discovery
from regtool.spatial.compose import compose

PRESETS = {"diffusemorph": "trial", "fsdiffreg": "trial", "ldm-morph": "trial"}
SHAPE = (64, 64)


def pair() -> Pair:
    drawn = torch.rand(2, 1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    fixed, moving = (torch.nn.functional.avg_pool2d(x, 5, 1, 2) for x in drawn)
    return Pair(Sample(fixed, (1.0, 1.0)), Sample(moving, (1.0, 1.0)))


def moved(module: torch.nn.Module) -> None:
    """Weights that move something, as trained ones do."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if float(parameter.abs().max()) < 1e-3 and parameter.dim() > 1:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))


@pytest.mark.parametrize("name", PRESETS)
def test_a_prediction_after_a_second_look(name: str) -> None:
    method = discovery.load(name)

    def stage_of(second: float):
        preset = copy.deepcopy(method.presets[PRESETS[name]])
        preset["training"] |= {"second_look": second, "teacher": 0.0}
        preset["training"].pop("slices_first", None)
        return preset, discovery.resolve_import(method.recipe, "recipe")(preset)

    preset, stages = stage_of(1.0)
    torch.manual_seed(0)
    upstream = {}
    for stage in stages:
        module = upstream[stage.name] = stage.build(preset, upstream)
    module.eval()
    moved(module)

    def context() -> Context:
        return Context(torch.Generator().manual_seed(3), torch.device("cpu"), training=True)

    given = pair()
    with torch.no_grad():
        whole = stages[-1].step(module, given, context()).prediction.displacement
        running = context()
        chance(running.generator, 1.0)  # the draw that decides on a second look
        options = discovery.resolve_import(method.options, "options")(passes=1)
        before = getattr(module, "registrar", module)(given, options, running).displacement
        (*_, once) = stage_of(0.0)[1]
        left = once.step(module, second_look(given, before), running).prediction.displacement
    assert min(float(u.abs().max()) for u in (before, left)) > 1e-3
    torch.testing.assert_close(whole, compose(before, left), rtol=1e-4, atol=1e-5)
