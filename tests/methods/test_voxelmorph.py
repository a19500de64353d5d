"""VoxelMorph and VoxelMorph-diff: sizes, losses, behaviour, and Dice on real hearts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from real_hearts import gains, records

import regtool
from regtool.api import Context, Pair, Sample
from regtool.api.refine import taught
from regtool.data.readers import open_data
from regtool.engine.training.settings import apply_overrides
from regtool.nn.inflate import inflate
from regtool.plugins import discovery
from regtool.spatial.compose import compose
from regtool.spatial.jacobian import jacobian_determinant
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import warp
from regtool.weights import resolve
from regtool_voxelmorph.network import VARIANTS, UNet, VoxelMorph, VoxelMorphDiff
from regtool_voxelmorph.options import DiffOptions, VoxelMorphOptions
from regtool_voxelmorph.presets import VOXELMORPH, VOXELMORPH_DIFF
from regtool_voxelmorph.recipe import recipe, recipe_diff


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("1", 259_675), ("2", 300_547), ("benchmark-1", 274_387), ("benchmark-2", 301_411),
     ("default", 327_331)],
)  # fmt: skip
def test_published_parameter_counts(variant, parameters):
    assert count(VoxelMorph(3, variant)) == parameters


def test_the_diffeomorphic_form_has_two_heads_at_half_resolution():
    u_net = UNet(3, VARIANTS["2"], to_half=True)
    assert count(VoxelMorphDiff(3, "2")) == count(u_net) + 2 * (27 * 32 * 3 + 3)
    mean, log_variance = VoxelMorphDiff(3, "2").velocity(*torch.rand(2, 1, 1, 16, 32, 48))
    assert mean.shape == log_variance.shape == (1, 3, 8, 16, 24)
    assert torch.allclose(log_variance, torch.full_like(log_variance, -10), atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(48, 33), (16, 17, 40)])
def test_any_size_gives_a_displacement_of_that_size(variant, shape):
    network = VoxelMorph(len(shape), variant)
    moving, fixed = torch.rand(2, 2, 1, *shape)
    u = network.displacement(moving, fixed)
    assert u.shape == (2, len(shape), *shape)
    assert u.abs().max() < 1e-2  # heads start at normal(0, 1e-5)


@pytest.mark.parametrize("preset", ["paper"])
def test_the_paper_preset_has_the_papers_settings(preset):
    assert VOXELMORPH[preset]["network"] == {"variant": "2", "width": 1}
    training = VOXELMORPH[preset]["training"]
    assert (training["lr"], training["batch"], training["similarity"]) == (1e-4, 1, "ncc")
    assert training["smoothness"] == 1.0
    diff = VOXELMORPH_DIFF[preset]["training"]
    assert (diff["sigma"], diff["prior"]) == (0.02, 10.0)


def blobs(seed: int = 0, shape: tuple[int, ...] = (64, 64)) -> Pair:
    """A disc that shrinks: an overfitting exercise with labels."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = sum(a**2 for a in axes).sqrt()
    spacing = (1.0,) * len(shape)

    def sample(size: float) -> Sample:
        disc = (radius < size).float()
        soft = torch.sigmoid((size - radius) * 20) * 0.8 + 0.1
        return Sample(soft[None, None], spacing, labels=disc.long()[None, None])

    return Pair(sample(0.45), sample(0.65))


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)


@pytest.mark.parametrize(("shape", "steps"), [((48, 48), 100), ((16, 16, 32), 60)])
@pytest.mark.parametrize("diff", [False, True])
def test_overfits_one_pair(diff, shape, steps):
    torch.manual_seed(0)
    presets = VOXELMORPH_DIFF if diff else VOXELMORPH
    preset = dict(presets[f"acdc-{len(shape)}d"], network={"variant": "1"})
    preset["training"] = {k: v for k, v in preset["training"].items() if k != "slices_first"}
    (stage,) = (recipe_diff if diff else recipe)(preset)
    module = stage.build(preset, {})
    pair = blobs(shape=shape)
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    for _ in range(steps):
        loss = sum(stage.step(module, pair, context()).terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        u = module(pair, DiffOptions() if diff else VoxelMorphOptions(), context()).displacement
    disc = warp(pair.moving.labels.float(), u, mode="nearest")
    before, after = (
        2 * (a * pair.fixed.labels).sum() / (a.sum() + pair.fixed.labels.sum())
        for a in (pair.moving.labels.float(), disc)
    )
    assert after > 0.9 > before
    if diff:
        assert jacobian_determinant(u).min() > 0


def test_a_teacher_adds_the_distance_from_instance_optimisation():
    torch.manual_seed(0)
    settings = VOXELMORPH["acdc-2d"]["training"]
    asked = apply_overrides(VOXELMORPH["acdc-2d"], ["teacher=3", "clip=1.0"])["training"]
    older = {k: v for k, v in settings.items() if k not in ("teacher", "clip")}
    pair, module, found = blobs(), VoxelMorph(2, "1"), []
    for training in (older, settings, asked):
        (stage,) = recipe({**VOXELMORPH["acdc-2d"], "training": training})
        found.append(stage.step(module, pair, context()).terms)
    before, off, on = found
    assert before == off == {k: v for k, v in on.items() if k != "teacher"}
    # A new network does not move anything.
    still = taught(pair, context()).square().sum(1).add(0.01).sqrt().mean()
    assert still > 1
    assert float(on["teacher"].detach()) == pytest.approx(3 * float(still), rel=1e-3)
    on["teacher"].backward()
    assert module.flow.convolution.weight.grad.abs().max() > 0
    assert stage.optimisers[0].clip_norm == 1.0
    assert recipe({**VOXELMORPH["acdc-2d"], "training": older})[0].optimisers[0].clip_norm is None


def test_a_further_pass_sees_the_warped_image_and_is_composed():
    torch.manual_seed(0)
    module, pair = VoxelMorph(2, "1"), blobs()
    with torch.no_grad():
        module.flow.convolution.weight.normal_(0, 0.3)
        once = module(pair, VoxelMorphOptions(), context()).displacement
        twice = module(pair, VoxelMorphOptions(passes=2), context()).displacement
        warped = warp(pair.moving.image, once, padding="zeros")
        second = module.displacement(warped, pair.fixed.image)
    assert torch.allclose(once, module.displacement(pair.moving.image, pair.fixed.image))
    assert torch.allclose(twice, compose(once, second))


def test_the_inverse_undoes_the_displacement():
    torch.manual_seed(0)
    module = VoxelMorphDiff(2, "1")
    velocity = gaussian(torch.randn(1, 2, 32, 32), 4.0)
    velocity *= 2.0 / velocity.abs().max()
    there, back = (module.expand(v, (64, 64)) for v in (velocity, -velocity))
    both = compose(there, back)[..., 6:-6, 6:-6]
    assert there.abs().max() > 2
    assert both.abs().max() < 0.05 * there.abs().max()


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_the_inverse_of_several_passes_undoes_them(passes):
    torch.manual_seed(0)
    module, pair = VoxelMorphDiff(2, "1"), blobs()
    smooth = gaussian(torch.randn(1, 2, 32, 32), 4.0)
    smooth *= 2.0 / smooth.abs().max()
    module.velocity = lambda moving, fixed: (smooth * moving.mean(), None)
    answer = module(pair, DiffOptions(passes=passes), context())
    both = compose(answer.displacement, answer.inverse)[..., 8:-8, 8:-8]
    assert both.abs().max() < 0.1 * answer.displacement.abs().max()


@pytest.mark.parametrize("passes", [1, 2])
def test_a_fraction_of_the_path_moves_less(passes):
    module, pair = VoxelMorphDiff(2, "1"), blobs()
    # A network that sees how far apart the discs still are, and takes them there.
    line = torch.linspace(-15.5, 15.5, 32)
    outwards = 0.35 * torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
    distance = float((pair.moving.image - pair.fixed.image).mean())
    module.velocity = lambda moving, fixed: (outwards * (moving - fixed).mean() / distance, None)
    none, half, whole = (
        module(pair, DiffOptions(fraction=f, passes=passes), context()).displacement
        for f in (0.0, 0.5, 1.0)
    )
    assert none.norm() == 0
    assert float(half.norm() / whole.norm()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("shape", [(40, 24), (16, 24, 40)])
def test_training_takes_sizes_that_the_network_cannot_halve(shape):
    (stage,) = recipe_diff(VOXELMORPH_DIFF["acdc-2d"])
    output = stage.step(VoxelMorphDiff(len(shape), "1"), blobs(shape=shape), context())
    assert output.prediction.displacement.shape[2:] == shape
    assert all(torch.isfinite(term) for term in output.terms.values())


@pytest.mark.parametrize("name", ["voxelmorph", "voxelmorph-diff"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_shipped_weights_load_and_are_small(name, ndim):
    found = resolve(discovery.load(name), None, ndim, offline=True)
    assert found.pinned
    assert found.model.stat().st_size < 3 * 2**20
    assert found.config["training"]["data"]


GOALS = {("voxelmorph", None): 0.72, ("voxelmorph", "z"): 0.78,
         ("voxelmorph-diff", None): 0.70, ("voxelmorph-diff", "z"): 0.76}  # fmt: skip


@pytest.fixture(scope="module")
def hearts(shared_data):
    """The records of a method on the first four patients, registered once."""
    return cache(lambda name, slices: records(shared_data, name, slices, limit=4))


@pytest.mark.parametrize(("name", "slices"), GOALS)
def test_improves_dice_on_real_hearts(hearts, name, slices):
    found = hearts(name, slices)
    assert min(gains(found)) > 0.02
    assert np.mean(gains(found)) > 0.1
    assert np.mean([r["jacobian"]["percent"] for r in found]) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "slices"), GOALS)
def test_reaches_its_goal_on_the_validation_patients(shared_data, name, slices):
    found = records(shared_data, name, slices)
    assert np.mean([r["dice"]["after"]["mean"] for r in found]) >= GOALS[name, slices]
    assert np.mean([r["jacobian"]["percent"] for r in found]) < 0.5


@pytest.mark.parametrize("kind", [VoxelMorph, VoxelMorphDiff])
def test_an_inflated_network_sees_equal_slices_as_the_flat_one_does(kind):
    torch.manual_seed(0)
    flat, solid = kind(2, "2"), kind(3, "2")
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    inflate(flat, solid)
    slices = torch.rand(2, 1, 32, 48)
    volumes = slices[:, :, None].expand(-1, -1, 64, -1, -1)
    with torch.no_grad():
        if kind is VoxelMorph:
            wanted = flat.displacement(slices[:1], slices[1:])
            found = solid.displacement(volumes[:1], volumes[1:])
        else:
            wanted, _ = flat.velocity(slices[:1], slices[1:])
            found, _ = solid.velocity(volumes[:1], volumes[1:])
    middle = found[:, :, found.shape[2] // 2]
    assert middle[:, 0].abs().max() < 1e-2
    # Zero padding at the ends of the stack reaches the middle through the deepest level only.
    assert torch.allclose(middle[:, 1:], wanted, atol=0.05 * float(wanted.abs().max()))


def test_cropped_and_uncropped_files_give_the_same_answer(shared_data, hearts, tmp_path):
    """No label decides the box, and where the file ends does not either."""
    import SimpleITK as sitk

    pairs = [p for p in open_data(f"acdc:{shared_data / 'acdc'}") if p.split == "val"]
    whole, cropped = hearts("voxelmorph", "z")[1:4], []
    for pair in pairs[1:4]:
        files = [pair.fixed.image, pair.moving.image, pair.fixed.labels, pair.moving.labels]
        small = []
        for position, file in enumerate(files):
            image = sitk.ReadImage(str(file))
            size = list(image.GetSize())
            start = [size[0] // 10, size[1] // 12, 0]
            part = [size[0] * 8 // 10, size[1] * 10 // 12, size[2]]
            path = tmp_path / f"{pair.name}_{position}.nii.gz"
            sitk.WriteImage(sitk.RegionOfInterest(image, part, start), str(path))
            small.append(path)
        done = regtool.register(
            small[0], small[1], "voxelmorph", slices="z",
            fixed_labels=small[2], moving_labels=small[3],
        )  # fmt: skip
        cropped.append(done.record)
    whole, cropped = ([r["dice"]["after"]["mean"] for r in found] for found in (whole, cropped))
    assert np.abs(np.subtract(whole, cropped)).max() < 0.03
