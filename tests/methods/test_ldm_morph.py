"""LDM-Morph: published sizes, switches, noise, the loss, and the checks every method passes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from ldm_morph_cases import preset

from regtool.api import Context, Pair, Sample
from regtool.spatial.compose import compose
from regtool.spatial.warp import warp
from regtool_ldm_morph.autoencoder import Autoencoder
from regtool_ldm_morph.denoiser import SCHEDULE, Denoiser, build_unet, tap_channels
from regtool_ldm_morph.encoder import LatentEncoder
from regtool_ldm_morph.lgca import LGCA
from regtool_ldm_morph.loss import HierarchicalLoss
from regtool_ldm_morph.model import FROZEN, LDMMorph, build
from regtool_ldm_morph.network import RegistrationNetwork
from regtool_ldm_morph.options import LDMMorphOptions
from regtool_ldm_morph.presets import LDM_MORPH

PAPER = LDM_MORPH["paper"]["network"]


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def model(**changes: Any) -> LDMMorph:
    """A small model whose head is not silent."""
    torch.manual_seed(0)
    module = build(preset(**changes)).eval()
    torch.nn.init.normal_(module.registration.head.convolution.weight, 0, 0.1)
    return module


def pair(batch: int = 1, shape: tuple[int, int] = (64, 64), seed: int = 0) -> Pair:
    draw = torch.Generator().manual_seed(seed)
    fixed, moving = torch.rand(2, batch, 1, *shape, generator=draw).unbind(0)
    return Pair(Sample(fixed, (1.0, 1.0)), Sample(moving, (1.0, 1.0)))


def field(module: LDMMorph, of: Pair, seed: int = 0, **options: Any) -> torch.Tensor:
    context = Context(torch.Generator().manual_seed(seed), torch.device("cpu"))
    with torch.no_grad():
        return module(of, LDMMorphOptions(**options), context).displacement


def test_published_sizes_of_the_autoencoder():
    vq = Autoencoder(PAPER["autoencoder"]).vq
    assert (count(vq.encoder), count(vq.decoder), count(vq.quantize)) == (
        24_429_185, 36_104_193, 16_384
    )  # fmt: skip


def test_published_sizes_of_the_diffusion_network():
    assert count(build_unet(PAPER["diffusion"], 1)) == 22_409_537
    assert count(Denoiser(PAPER["diffusion"], 1)) == 6_067_392
    assert [2 * c for c in tap_channels(PAPER["diffusion"]["widths"])] == [256, 384, 640, 896]


def test_published_sizes_of_the_registration_network():
    settings, taps = PAPER["registration"], [256, 384, 640, 896]
    assert count(RegistrationNetwork({**settings, "unused": True}, taps)) == 31_510_854
    assert count(RegistrationNetwork(settings, taps)) == 29_144_934


def test_the_paper_preset_has_the_papers_settings():
    training = LDM_MORPH["paper"]["training"]
    assert (training["beta"], training["smoothness"], training["lr"]) == (0.6, 0.01, 1e-4)
    assert (training["batch"], training["steps"]) == (1, 24_000)
    assert training["latent_grad"] and not training["double_beta"]
    assert PAPER["noise"] == "shared" and PAPER["second_block"] == "cross" and PAPER["time"] == 1
    assert SCHEDULE.level(1) == pytest.approx(0.99699, abs=5e-6)
    assert SCHEDULE.level(999) == pytest.approx(1.4e-4, rel=0.02)


def test_the_compact_preset_fits_its_budget():
    module = build(LDM_MORPH["compact"])
    assert 2 * sum(v.numel() for v in module.state_dict().values()) < 14 * 2**20


def test_taps_are_the_first_and_third_layer_of_four_levels():
    settings = preset()["network"]["diffusion"]
    denoiser, seen = Denoiser(settings, 1, whole=True).eval(), []
    unet = denoiser.unet
    hooked = [unet.conv_in, *(b.downsamplers[0] for b in unet.down_blocks[:-1])]
    for level, first in enumerate(hooked):
        block = unet.down_blocks[level]
        third = (block.attentions if level else block.resnets)[-1]
        for part in (first, third):
            part.register_forward_hook(lambda m, i, out, at=level: seen.append((at, out)))
    with torch.no_grad():
        found = denoiser.features(torch.rand(2, 1, 16, 16), 1)
        ours = dict(enumerate(found))
        outputs = {level: [o for at, o in seen if at == level] for level in range(4)}
    assert [tuple(f.shape[1:]) for f in found] == [
        (32, 16, 16), (32, 8, 8), (48, 4, 4), (64, 2, 2)
    ]  # fmt: skip
    for level, parts in outputs.items():
        assert torch.equal(torch.cat(parts, 1), ours[level])


def test_the_feature_half_is_the_beginning_of_the_whole():
    settings = preset()["network"]["diffusion"]
    torch.manual_seed(1)
    whole, half = Denoiser(settings, 1, whole=True).eval(), Denoiser(settings, 1).eval()
    half.load_unet(whole.unet.state_dict())
    z = torch.rand(1, 1, 16, 16)
    for a, b in zip(whole.features(z, 1), half.features(z, 1), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert not [name for name in half.state_dict() if "up_blocks" in name or "mid_block" in name]


@pytest.mark.parametrize(
    "changes",
    [{}, {"features": False}, {"cross_attention": False}, {"second_block": "self"},
     {"noise": "ddim_inversion"}, {"noise": "none"}, {"noise": "fresh"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("shape", [(64, 64), (45, 70)])
def test_every_switch_gives_a_field_of_the_image_size(changes, shape):
    u = field(model(**changes), pair(2, shape))
    assert u.shape == (2, 2, *shape)
    assert torch.isfinite(u).all() and u.std() > 0


def test_the_ablations_have_fewer_and_fewer_parts():
    whole, plain, lower = (
        count(build(preset(**c))) for c in ({}, {"cross_attention": False}, {"features": False})
    )
    assert whole > plain > lower
    names = {name.split(".")[0] for name in build(preset(features=False)).state_dict()}
    assert names == {"registration"}


def test_the_second_block_crosses_or_not():
    torch.manual_seed(0)
    cross = LGCA(8, 2, 4).eval()
    alone = LGCA(8, 2, 4, second="self").eval()
    alone.load_state_dict(cross.state_dict())
    x, y = torch.rand(2, 1, 8, 8, 8)
    assert not torch.allclose(cross(x, y), alone(x, y), atol=1e-3)
    assert torch.allclose(cross(x, x), LGCA.forward(cross, x, x))
    assert not torch.allclose(cross(x, y), cross(y, x), atol=1e-2)


def test_fields_start_at_nothing_and_are_in_voxels():
    torch.manual_seed(0)
    module = build(preset()).eval()
    assert field(module, pair()).abs().max() < 0.05
    with torch.no_grad():
        module.registration.head.convolution.bias.copy_(torch.tensor([1.0, -1.0]))
    u = field(module, pair(shape=(64, 96)))
    assert u[0, 0].mean() == pytest.approx(0.5 * 63 / 2, abs=0.1)  # softsign(1) is one half
    assert u[0, 1].mean() == pytest.approx(-0.5 * 95 / 2, abs=0.1)


def test_the_seed_decides_the_noise_and_nothing_else_does():
    module, images = model(), pair()
    assert torch.equal(field(module, images, 3), field(module, images, 3))
    assert not torch.equal(field(module, images, 3), field(module, images, 4))
    still = [field(module, images, seed, noise="none") for seed in (3, 4)]
    assert torch.equal(*still)
    fields = [field(module, images, noise=n) for n in ("shared", "fresh", "none")]
    assert not torch.equal(fields[0], fields[1]) and not torch.equal(fields[0], fields[2])


def test_a_slice_is_registered_alone_as_among_others():
    module, three = model(), pair(3)
    alone = Pair(*(Sample(s.image[2:], s.spacing) for s in (three.fixed, three.moving)))
    assert torch.allclose(field(module, three)[2:], field(module, alone), atol=1e-3)


def test_a_second_pass_goes_on_from_the_first():
    module, images = model(), pair()
    first = field(module, images, noise="none")
    warped = Sample(warp(images.moving.image, first, padding="zeros"), (1.0, 1.0))
    second = field(module, Pair(images.fixed, warped), noise="none")
    twice = field(module, images, noise="none", passes=2)
    assert torch.equal(twice, compose(first, second))
    assert not torch.allclose(twice, first, atol=0.1)


def test_ddim_inversion_without_training_adds_no_noise():
    """The untrained network predicts no noise, so the latents are only scaled."""
    module = model(noise="ddim_inversion")
    inverted, calm = field(module, pair()), field(module, pair(), noise="none")
    assert torch.allclose(inverted, calm, atol=0.05 * float(calm.abs().max()))
    assert torch.equal(inverted, field(module, pair(), seed=9))


SETTINGS = preset()["training"]


def loss(**changes: Any) -> HierarchicalLoss:
    return HierarchicalLoss({**SETTINGS, "smoothness": 0.0, **changes})


def pull(**changes: Any) -> dict[str, tuple[float, float]]:
    """Value of each term and size of its gradient at the field."""
    torch.manual_seed(0)
    encoder = LatentEncoder(preset()["network"]["autoencoder"]).eval().requires_grad_(False)
    images = pair()
    found = {}
    for name in ("pixels", "latents"):
        u = torch.full((1, 2, 64, 64), 0.3, requires_grad=True)
        term = loss(**changes).terms(u, images.moving.image, images.fixed.image, encoder)[name]
        if term.requires_grad:
            term.backward()
        found[name] = (float(term.detach()), 0.0 if u.grad is None else float(u.grad.norm()))
    return found


def test_the_latent_term_pulls_unless_it_is_told_not_to():
    by_paper, by_code = pull(), pull(latent_grad=False)
    assert by_paper["latents"][1] > 0
    assert by_code["latents"][1] == 0
    assert by_code["latents"][0] == pytest.approx(by_paper["latents"][0], rel=1e-4)
    assert by_code["pixels"] == pytest.approx(by_paper["pixels"], rel=1e-4)


def test_beta_divides_once_or_twice():
    once, twice = loss(), loss(double_beta=True)
    assert (once.pixel_weight, once.latent_weight) == pytest.approx((0.6, 0.4))
    assert (twice.pixel_weight, twice.latent_weight) == pytest.approx((0.36, 0.16))
    u = torch.zeros(1, 2, 64, 64)
    images = pair()
    alone = loss(beta=1.0).terms(u, images.moving.image, images.fixed.image, None)
    assert set(alone) == {"pixels", "smoothness"}
    with pytest.raises(ValueError, match="needs the encoder"):
        once.terms(u, images.moving.image, images.fixed.image, None)


def test_the_latent_term_in_image_units_does_not_depend_on_the_units_of_latents():
    plain, scaled = (pull(latent_scale=s)["latents"][0] for s in ("none", "image"))
    assert plain != pytest.approx(scaled, rel=0.1)
    torch.manual_seed(0)
    encoder = LatentEncoder(preset()["network"]["autoencoder"]).eval()
    images, values = pair(), []
    for spread in (1.0, 5.0):
        encoder.spread.fill_(spread)
        u = torch.full((1, 2, 64, 64), 0.3)
        with torch.no_grad():
            terms = loss(latent_scale="image").terms(
                u, images.moving.image, images.fixed.image, encoder
            )
        values.append(float(terms["latents"]))
    assert values[0] == pytest.approx(values[1], rel=1e-3)


def test_only_what_registers_is_in_the_weights():
    names = list(build(LDM_MORPH["trial"]).state_dict())
    assert {n.split(".")[0] for n in names} == {*FROZEN, "registration"}
    assert not [n for n in names if "decoder" in n or "quantize" in n or "up_blocks" in n]


@pytest.mark.parametrize("name", ["trial", "compact"])
def test_the_frozen_parts_compute_what_diffusers_computes(name):
    """Same parameter names and same results as the networks they were trained as."""
    network = LDM_MORPH[name]["network"]
    torch.manual_seed(0)
    whole = Autoencoder(network["autoencoder"]).eval()
    encoder = LatentEncoder(network["autoencoder"]).eval()
    encoder.load_state_dict(whole.encoder_state())
    image = torch.rand(2, 1, 32, 64)
    with torch.no_grad():
        assert torch.allclose(encoder(image), whole.encode(image), atol=1e-5)

    trained, half = Denoiser(network["diffusion"], 1, whole=True), Denoiser(network["diffusion"], 1)
    half.load_unet(trained.unet.state_dict())
    z = torch.rand(2, 1, 8, 16)
    with torch.no_grad():
        for t in (1, 700):
            for a, b in zip(trained.eval().features(z, t), half.eval().features(z, t), strict=True):
                assert torch.allclose(a, b, atol=1e-4)


def test_registering_does_not_import_diffusers():
    """It takes longer to import than a pair takes to register."""
    code = (
        "import sys, torch; from regtool_ldm_morph.model import build; "
        "from regtool_ldm_morph.presets import LDM_MORPH; build(LDM_MORPH['trial']); "
        "sys.exit('diffusers' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
