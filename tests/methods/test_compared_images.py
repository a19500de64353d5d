"""Every loss compares the images as they were before training invented contrasts."""

from __future__ import annotations

import copy

import pytest
import torch

from regtool.api import Context, Pair, Sample
from regtool.plugins import discovery

PRESETS = {
    "voxelmorph": "acdc-2d", "voxelmorph-diff": "acdc-2d", "diffusemorph": "trial",
    "fsdiffreg": "trial", "vtn": "acdc-3d", "ldm-morph": "trial", "diffusereg": "acdc-3d",
    "ad-regnet": "small",
}  # fmt: skip
COMPARES = {"voxelmorph-diff": {"likelihood"}, "ldm-morph": {"pixels", "latents"}}
TEACHES = {"voxelmorph", "diffusemorph", "fsdiffreg", "vtn", "ldm-morph", "ad-regnet"}


def image(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    drawn = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    pool = torch.nn.functional.avg_pool3d if len(shape) == 3 else torch.nn.functional.avg_pool2d
    return pool(drawn, 3, 1, 1)


def pair_of(shape: tuple[int, ...], originals: tuple[int, int] | None) -> Pair:
    """Two images; with ``originals`` theirs are others, or with the seeds (0, 1) the same."""
    spacing = (2.0,) * len(shape)
    fixed, moving = (Sample(image(seed, shape), spacing) for seed in (0, 1))
    if originals is not None:
        fixed.original, moving.original = (image(seed, shape) for seed in originals)
    return Pair(fixed, moving)


@pytest.mark.parametrize("name", PRESETS)
def test_similarity_and_teacher_see_the_original_images(name):
    """At a second look, too, where a method has some."""
    method = discovery.load(name)
    preset = copy.deepcopy(method.presets[PRESETS[name]])
    if "second_look" in preset["training"]:
        preset["training"]["second_look"] = 1.0
    if name == "ad-regnet":
        preset["network"] |= {"widths": (4, 8, 8), "cap": 64}
    teaches = name in TEACHES
    if teaches:
        preset["training"]["teacher"] = 1.0
    preset["training"].pop("slices_first", None)
    torch.manual_seed(0)
    upstream = {}
    for stage in discovery.resolve_import(method.recipe, "recipe")(preset):
        module = upstream[stage.name] = stage.build(preset, upstream)
    module.eval()
    shape = (64, 64) if preset["ndim"] == 2 else (16, 24, 24)

    def terms(originals):
        context = Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)
        with torch.no_grad():
            found = stage.step(module, pair_of(shape, originals), context).terms
        return {key: float(value) for key, value in found.items()}

    plain, same, others = terms(None), terms((0, 1)), terms((2, 3))
    assert same == pytest.approx(plain, rel=1e-5)
    compared = COMPARES.get(name, {"similarity"}) | ({"teacher"} if teaches else set())
    assert {key for key in plain if plain[key] != others[key]} == compared
