"""DiffuseMorph: sizes, the schedule's numbers, losses, the way along eta, synthetic images."""

from __future__ import annotations

import pytest
import torch

from regtool.api import Context, Pair, Sample
from regtool.api.train import roughness
from regtool.nn.convolution import narrow_convolution
from regtool.nn.inflate import inflate
from regtool.nn.score import ScoreNetwork
from regtool.spatial.compose import compose
from regtool.spatial.warp import warp
from regtool_diffusemorph.field import FieldNetwork
from regtool_diffusemorph.images import prepared
from regtool_diffusemorph.loss import LOW, JointLoss
from regtool_diffusemorph.model import SCHEDULE, DiffuseMorph, build
from regtool_diffusemorph.options import DiffuseMorphOptions
from regtool_diffusemorph.presets import DIFFUSEMORPH
from regtool_diffusemorph.recipe import recipe


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(ndim: int, integrate: int = 0) -> DiffuseMorph:
    torch.manual_seed(0)
    return DiffuseMorph(
        ndim, {"width": 8, "groups": 4, "attention": "linear"}, {"flow_init": 0.02}, integrate
    )


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)


def blobs(shape: tuple[int, ...] = (64, 64)) -> Pair:
    """A disc that shrinks: an overfitting exercise with labels."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = sum(a**2 for a in axes).sqrt()

    def sample(size: float) -> Sample:
        disc = (radius < size).long()
        soft = torch.sigmoid((size - radius) * 20) * 0.8 + 0.1
        return Sample(soft[None, None], (1.0,) * len(shape), labels=disc[None, None])

    return Pair(sample(0.45), sample(0.65))


# -- networks ----------------------------------------------------------------------------------


def test_published_parameter_counts():
    volume = build({"ndim": 3, "network": DIFFUSEMORPH["paper"]["network"]})
    assert (count(volume.score), count(volume.field)) == (715_665, 361_299)
    with torch.device("meta"):
        flat = build({"ndim": 2, "network": DIFFUSEMORPH["paper-face"]["network"]})
    assert (count(flat.score), count(flat.field)) == (15_936_129, 74_736_258)


def test_the_parts_of_the_score_network_have_the_released_sizes():
    """Encoder, middle and decoder as FSDiffReg, which shares them, counts them."""
    score = ScoreNetwork(3, 8, groups=4, attention="linear")
    parts = [(score.stem, score.down, score.smaller), (score.middle, score.attention),
             (score.up, score.larger)]  # fmt: skip
    sizes = [sum(count(part) for part in group) for group in parts]
    assert sizes == [149_552, 115_744, 449_584]


def test_the_small_2d_presets_have_voxelmorph_sized_fields():
    for name in ("paper-slices", "acdc-2d"):
        assert count(FieldNetwork(2, **DIFFUSEMORPH[name]["network"]["field"])) < 500_000


@pytest.mark.parametrize("shape", [(48, 33), (16, 17, 40)])
@pytest.mark.parametrize("integrate", [0, 4])
def test_any_size_gives_a_displacement_of_that_size(shape, integrate):
    model = small(len(shape), integrate)
    pair = Pair(*(Sample(torch.rand(2, 1, *shape), (1.0,) * len(shape)) for _ in range(2)))
    with torch.no_grad():
        u = model(pair, DiffuseMorphOptions(passes=2), context()).displacement
    assert u.shape == (2, len(shape), *shape)
    assert torch.isfinite(u).all() and u.abs().max() > 0


@pytest.mark.parametrize("attention", ["full", "linear"])
def test_attention_is_what_its_formula_says(attention):
    torch.manual_seed(0)
    layer = ScoreNetwork(2, 8, groups=4, attention=attention).attention
    x = torch.randn(1, 32, 3, 5)
    q, k, v = layer.qkv(layer.norm(x)).reshape(3, 32, 15)
    if attention == "full":
        found = v @ ((q.T @ k) / 32**0.5).softmax(1).T
    else:
        heads = [t.reshape(4, 8, 15) for t in (q, k, v)]
        found = torch.stack(
            [(b.softmax(1) @ c.T).T @ a for a, b, c in zip(*heads, strict=True)]
        ).reshape(32, 15)
    wanted = x + layer.out(found.reshape(1, 32, 3, 5))
    assert torch.allclose(layer(x), wanted, atol=1e-5)


def test_the_score_network_knows_the_step():
    score = ScoreNetwork(2, 8, groups=4, attention="linear")
    x = torch.randn(1, 3, 16, 16).expand(2, -1, -1, -1)
    with torch.no_grad():
        one, other = score(x, torch.tensor([0, 1500]))
        again = score(x, torch.tensor([1500]))[0]
    assert not torch.allclose(one, other, atol=1e-3)
    assert torch.allclose(other, again, atol=1e-5)


def test_networks_start_as_released():
    """Orthogonal score network, normal(0, 0.02) deformation network with its last layer too."""
    score, field = ScoreNetwork(3, 8, groups=4, attention="linear"), FieldNetwork(3)
    rows = score.down[2].first.convolution.weight.flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-4)
    for layer in (field.flow, field.larger[0], field.down[1][0]):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.15)
    assert FieldNetwork(3, flow_init=1e-5).flow.weight.std() < 2e-5


def test_zeros_beside_the_last_layers_channels_change_nothing():
    field = FieldNetwork(3)
    x = torch.randn(1, 8, 4, 6, 5)
    assert torch.allclose(narrow_convolution(field.flow, x), field.flow(x), atol=1e-6)


def test_an_inflated_network_sees_equal_slices_as_the_flat_one_does():
    flat, solid = small(2), small(3)
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    inflate(flat, solid)
    slices = 2 * torch.rand(2, 1, 32, 48) - 1
    volumes = slices[:, :, None].expand(-1, -1, 64, -1, -1)
    t = torch.tensor([100])
    with torch.no_grad():
        wanted = flat.field(slices.transpose(0, 1))
        found = solid.field(volumes.transpose(0, 1))[:, :, 32]
        noise = flat.noise(slices[:1], slices[1:], slices[1:], t)
        solid_noise = solid.noise(volumes[:1], volumes[1:], volumes[1:], t)[:, :, 32]
    # Zero padding at the ends of the stack reaches the middle through the deepest level only.
    assert torch.allclose(found[:, 1:], wanted, atol=0.05 * float(wanted.abs().max()))
    assert torch.allclose(solid_noise, noise, atol=0.1 * float(noise.abs().max()))


# -- schedule and loss -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "level"),
    [(0, 1.0), (100, 0.975), (200, 0.904), (500, 0.534), (1000, 0.0814), (1999, 4.4e-5)],
)
def test_levels_of_the_schedule(t, level):
    assert SCHEDULE.steps == 2000
    assert SCHEDULE.level(t) == pytest.approx(level, rel=0.02)


def test_the_paper_presets_have_the_papers_settings():
    wanted = {"paper": (20.0, 2e-4, 72_000), "paper-brain": (10.0, 1e-4, 61_620),
              "paper-face": (2.0, 5e-6, 50_880), "paper-slices": (20.0, 2e-4, 72_000)}  # fmt: skip
    for name, values in wanted.items():
        training = DIFFUSEMORPH[name]["training"]
        assert (training["lambda"], training["lr"], training["steps"]) == values
        assert (training["similarity"], training["smoothness"]) == ("ncc", 1.0)
        assert (training["batch"], training["ema"]) == (1, None)
        assert not any(
            training[key] for key in ("clean", "focus", "second_look", "still", "teacher")
        )
        assert training["units"] == "voxels" and training["clip"] is None
        assert DIFFUSEMORPH[name]["network"]["integrate"] == 0
    assert next(iter(DIFFUSEMORPH)) == "paper"


def test_the_loss_is_the_papers():
    """Noise error + lambda (similarity + smoothness) at the drawn steps, by hand."""
    from regtool.losses.ncc import local_ncc
    from regtool.losses.smoothness import diffusion

    model, pair = small(2), blobs()
    loss = JointLoss(DIFFUSEMORPH["paper"]["training"])
    with torch.no_grad():
        terms = loss(model, pair, context()).terms
    (m, f), _ = prepared(pair.moving.image, pair.fixed.image)
    drawn = loss.draw(f, context().generator)
    level = SCHEDULE.levels[drawn.t].float().reshape(-1, 1, 1, 1)
    state = level.sqrt() * f + (1 - level).sqrt() * drawn.noise
    with torch.no_grad():
        noise = model.score(torch.cat([m, f, state], 1), drawn.t)
        u = model.field(torch.cat([m, noise], 1))
    warped = warp(pair.moving.image, u)
    assert set(terms) == {"noise", "similarity", "smoothness"}
    error = float((noise - drawn.noise).square().mean())
    assert float(terms["noise"]) == pytest.approx(error, rel=1e-4)
    assert float(terms["similarity"]) == pytest.approx(
        20 * float(local_ncc(pair.fixed.image, warped)), rel=1e-4
    )
    assert float(terms["smoothness"]) == pytest.approx(20 * float(diffusion(u)), rel=1e-4)


def test_the_registration_teaches_the_score_network():
    model, pair = small(2), blobs()
    terms = JointLoss(DIFFUSEMORPH["paper"]["training"])(model, pair, context()).terms
    terms["similarity"].backward()
    assert model.score.stem.weight.grad.abs().max() > 0


def test_steps_are_drawn_as_the_settings_say():
    fixed, draw = torch.zeros(4000, 1, 1, 1), torch.Generator().manual_seed(0)
    published = JointLoss(DIFFUSEMORPH["paper"]["training"]).draw(fixed, draw)
    assert not published.clean.any()
    assert (published.t.min(), published.t.max()) >= (0, 1950)
    assert published.t.float().mean() == pytest.approx(999.5, rel=0.05)
    short = JointLoss(DIFFUSEMORPH["acdc-2d"]["training"]).draw(fixed, draw)
    assert short.clean.float().mean() == pytest.approx(0.5, abs=0.05)
    assert (short.t[short.clean] == 0).all()
    low = (short.t[~short.clean] < LOW).float().mean()
    assert low == pytest.approx(0.55, abs=0.05)  # half at random, and a tenth of the others


def test_clean_examples_have_no_noise_error():
    settings = {**DIFFUSEMORPH["acdc-2d"]["training"], "clean": 1.0, "second_look": 0.0,
                "teacher": 0.0}  # fmt: skip
    model, pair = small(2), blobs()
    output = JointLoss(settings)(model, pair, context())
    assert output.terms["noise"] == 0
    with torch.no_grad():
        u = model(pair, DiffuseMorphOptions(), context()).displacement
    assert torch.allclose(output.prediction.displacement, u, atol=1e-5)


def test_the_teacher_is_instance_optimisation_of_what_the_network_saw():
    from regtool.api.refine import taught

    settings = {**DIFFUSEMORPH["paper"]["training"], "teacher": 0.5, "clean": 1.0}
    model, pair = small(2), blobs()
    with torch.no_grad():
        output = JointLoss(settings)(model, pair, context())
    apart = (output.prediction.displacement - taught(pair, context())).square().sum(1)
    wanted = 20 * 0.5 * float((apart + 0.01).sqrt().mean())
    assert float(output.terms["teacher"]) == pytest.approx(wanted, rel=1e-3)


def test_smoothness_in_millimetres_lets_thick_slices_move_apart():
    loss = JointLoss({**DIFFUSEMORPH["paper"]["training"], "units": "mm"})
    plain = JointLoss(DIFFUSEMORPH["paper"]["training"])
    image = torch.zeros(1, 1, 8, 8, 8)
    thick = Pair(*(Sample(image, (8.0, 2.0, 2.0)) for _ in range(2)))
    across, within = torch.zeros(2, 1, 3, 8, 8, 8)
    across[:, 2] = torch.arange(8.0)[:, None, None]  # moves along x, more from slice to slice
    within[:, 2] = torch.arange(8.0)[:, None]  # and more from row to row
    assert roughness(across, thick, loss.units) == pytest.approx(1 / 9 / 16)
    assert roughness(within, thick, loss.units) == pytest.approx(1 / 9)
    assert roughness(across, thick, plain.units) == roughness(within, thick, plain.units)


@pytest.mark.parametrize(
    ("shape", "steps", "enough"), [((48, 48), 120, 0.85), ((16, 16, 16), 60, 0.8)]
)
def test_overfits_one_pair(shape, steps, enough):
    torch.manual_seed(0)
    preset = dict(DIFFUSEMORPH[f"acdc-{len(shape)}d"])
    preset["training"] = {k: v for k, v in preset["training"].items() if k != "slices_first"}
    # One moving image could be learnt by heart; a teacher would do the work.
    preset["training"] |= {"still": 10.0, "teacher": 0.0}
    (stage,) = recipe(preset)
    module, pair = stage.build(preset, {}), blobs(shape)
    # On the CPU two small volumes cost no more than one.
    seen = Pair.joined([pair, pair]) if len(shape) == 3 else pair
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    running = context()
    for _ in range(steps):
        loss = sum(stage.step(module, seen, running).terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def overlap(eta: float) -> float:
        with torch.no_grad():
            u = module(pair, DiffuseMorphOptions(eta=eta), context()).displacement
        disc, fixed = warp(pair.moving.labels.float(), u, mode="nearest"), pair.fixed.labels
        return float(2 * (disc * fixed).sum() / (disc.sum() + fixed.sum()))

    scores = [overlap(eta) for eta in (0.0, 0.5, 1.0)]
    assert scores[0] < scores[1] < scores[2]
    assert scores[2] > enough


# -- the way along eta -------------------------------------------------------------------------


def test_eta_scales_the_noise_that_the_deformation_network_sees():
    model, pair = small(2), blobs()
    moving, fixed = pair.moving.image, pair.fixed.image
    with torch.no_grad():
        (look,), u = model.looks(moving, fixed, 1)
        half = model(pair, DiffuseMorphOptions(eta=0.5), context()).displacement
        wanted = model.field(torch.cat([2 * moving - 1, 0.5 * look.noise], 1))
        whole = model(pair, DiffuseMorphOptions(), context()).displacement
    assert torch.allclose(half, wanted, atol=1e-6)
    assert torch.equal(whole, u)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_trajectory_ends_where_the_registration_does(passes):
    model, pair = small(2), blobs()
    options = DiffuseMorphOptions(trajectory=5, passes=passes)
    with torch.no_grad():
        answer = model(pair, options, context())
        third = model(pair, DiffuseMorphOptions(eta=0.5, passes=passes), context()).displacement
    frames = answer.extras["Trajectory"]
    assert frames.kind == "trajectory" and frames.tensor.shape == (1, 5, 2, 64, 64)
    assert torch.allclose(frames.tensor[:, -1], answer.displacement, atol=1e-5)
    assert torch.allclose(frames.tensor[:, 2], third, atol=1e-5)


def test_a_further_pass_sees_the_warped_image_and_is_composed():
    model, pair = small(2), blobs()
    moving, fixed = pair.moving.image, pair.fixed.image
    with torch.no_grad():
        _, once = model.looks(moving, fixed, 1)
        twice = model(pair, DiffuseMorphOptions(passes=2), context()).displacement
        _, second = model.looks(warp(moving, once, padding="zeros"), fixed, 1)
    assert torch.allclose(twice, compose(once, second), atol=1e-6)


@pytest.mark.parametrize(("frames", "etas"), [(1, (1.0,)), (2, (0.0, 1.0)), (3, (0.0, 0.5, 1.0))])
def test_frames_are_evenly_spaced_with_both_ends(frames, etas):
    assert DiffuseMorphOptions(trajectory=frames).etas == etas


# -- synthetic images --------------------------------------------------------------------------


def synthetic(pair: Pair, seed: int, model: DiffuseMorph, **options: int) -> torch.Tensor:
    drawn = Context(torch.Generator().manual_seed(seed), torch.device("cpu"))
    chosen = DiffuseMorphOptions(synthesize=True, **options)
    with torch.no_grad():
        return model(pair, chosen, drawn).extras["Synthetic"].tensor


@pytest.mark.parametrize("shape", [(32, 30), (16, 16, 20)])
def test_a_seed_gives_one_synthetic_image(shape):
    model, pair = small(len(shape)), blobs(shape)
    one, again, other = (synthetic(pair, s, model, start=20, steps=5) for s in (1, 1, 2))
    assert one.shape == pair.fixed.image.shape
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3)
    assert one.min() >= 0 and one.max() <= 1


def test_a_network_that_sees_the_fixed_image_leads_to_it():
    """The noise towards a known image, exactly: the end of the reverse process is that image."""
    model, pair = small(2), blobs()

    def exact(moving, fixed, state, t):
        level = SCHEDULE.level(int(t))
        return (state - level**0.5 * fixed) / (1 - level) ** 0.5

    model.noise = exact
    for options in ({}, {"steps": 200}, {"start": 1, "steps": 1}):
        found = synthetic(pair, 0, model, **options)
        assert torch.allclose(found, pair.fixed.image, atol=1e-4)


def test_progress_counts_the_reverse_steps():
    model, pair = small(2), blobs((32, 32))
    seen: list[tuple[int, int]] = []
    drawn = Context(torch.Generator(), torch.device("cpu"), report=lambda *s: seen.append(s))
    with torch.no_grad():
        model(pair, DiffuseMorphOptions(synthesize=True, steps=7), drawn)
    assert seen == [(k, 7) for k in range(1, 8)]


def test_outside_the_moving_image_is_what_the_release_has_there():
    outside = {name: preset["training"]["padding"] for name, preset in DIFFUSEMORPH.items()}
    assert outside["paper"] == outside["paper-brain"] == "zeros"
    assert outside["paper-face"] == outside["acdc-3d"] == "border"
    torch.manual_seed(0)
    module, pair = build(DIFFUSEMORPH["trial"]), blobs((32, 32))
    torch.nn.init.normal_(module.field.flow.weight, 0, 3.0)

    def similarity(**given):
        training = {k: v for k, v in DIFFUSEMORPH["trial"]["training"].items() if k != "padding"}
        with torch.no_grad():
            terms = JointLoss({**training, **given})(module, pair, context()).terms
        return float(terms["similarity"])

    assert similarity() == similarity(padding="border") != similarity(padding="zeros")
