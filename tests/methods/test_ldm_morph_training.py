"""Training of LDM-Morph: its stages, what stays frozen, GAN and LPIPS, and whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ldm_morph_cases import preset
from safetensors.torch import load_file, save_file

from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.teacher import TEACHER
from regtool.engine.training.checkpoint import load_checkpoint
from regtool.engine.training.frozen import fingerprints
from regtool.engine.training.run import TrainRequest, train
from regtool.errors import InputError, UsageError
from regtool.losses.smoothness import diffusion
from regtool.plugins.exchange import Pair, Sample
from regtool.spatial.integrate import integrate
from regtool.spatial.warp import warp
from regtool.testing.pairs import shifted_pair
from regtool.testing.subject import context
from regtool.testing.training import overfit, start
from regtool_ldm_morph import lpips
from regtool_ldm_morph.autoencoder import Autoencoder
from regtool_ldm_morph.critic import PatchCritic, adaptive_weight, hinge
from regtool_ldm_morph.earlier_run import finished_stages
from regtool_ldm_morph.lpips import LPIPS, load_lpips
from regtool_ldm_morph.presets import LDM_MORPH
from regtool_ldm_morph.recipe import recipe

SMALL = (32, 48)
"""Not a multiple of 32 along x, so that every stage has to pad."""


def chain(config, steps: int = 2):
    """The modules of all stages, each after a few steps on one pair."""
    done: dict[str, torch.nn.Module] = {}
    images = shifted_pair(SMALL, (1, -2))
    for stage in recipe(config):
        module = start(stage, config, done)
        overfit(stage, module, images, steps)
        done[stage.name] = module.eval()
    return done


@pytest.mark.parametrize(
    ("changes", "stages"),
    [({}, ["autoencoder", "diffusion", "registration"]),
     ({"beta": 1.0}, ["autoencoder", "diffusion", "registration"]),
     ({"features": False}, ["autoencoder", "registration"]),
     ({"features": False, "beta": 1.0}, ["registration"])],
    ids=str,
)  # fmt: skip
def test_stages_that_nothing_uses_are_left_out(changes, stages):
    config = preset(**changes)
    assert [stage.name for stage in recipe(config)] == stages
    last = chain(config)["registration"]
    assert (last.latent_encoder is None) == (len(stages) == 1)
    kept = {name.split(".")[0] for name in last.registrar.state_dict()}
    assert ("encoder" in kept) == changes.get("features", True)


def test_frozen_parts_come_from_the_first_stages_and_stay():
    config = preset()
    done = chain(config)
    first, second, last = done["autoencoder"], done["diffusion"], done["registration"]
    encoder = first.autoencoder.encoder_state()
    for module in (second.encoder, last.registrar.encoder):
        assert all(torch.equal(v, encoder[k]) for k, v in module.state_dict().items())
        assert not any(part.training for part in module.modules())
        assert not any(p.requires_grad for p in module.parameters())
    trained = second.unet.state_dict()
    for name, value in last.registrar.denoiser.unet.state_dict().items():
        assert torch.equal(value, trained[name])


def test_ddim_inversion_takes_the_whole_network_along():
    done = chain(preset(noise="ddim_inversion"), 1)
    ours, trained = (
        m.state_dict()
        for m in (done["registration"].registrar.denoiser.unet, done["diffusion"].unet)
    )
    assert ours.keys() == trained.keys()
    assert all(torch.equal(ours[name], trained[name]) for name in ours)


def test_the_latent_loss_reaches_the_registration_network_only():
    config = preset(similarity="mse", beta=0.0)
    done = chain(config, 1)
    stage = recipe(config)[-1]
    module = start(stage, config, done)
    terms = stage.step(module, shifted_pair(SMALL, (1, -2)), context()).terms
    assert float(terms["pixels"].detach()) == 0
    terms["latents"].backward()
    reached = {n.split(".")[1] for n, p in module.named_parameters() if p.grad is not None}
    assert reached == {"registration"}


def test_a_second_look_trains_on_what_the_network_warped():
    config = preset(second_look=1.0, noise="none")
    done = chain(config, 3)
    images, plain = shifted_pair(SMALL, (1, -2)), preset(noise="none")
    module = start(recipe(config)[-1], config, done)
    module.load_state_dict(done["registration"].state_dict())
    torch.nn.init.normal_(module.registrar.registration.head.convolution.weight, 0, 0.1)
    module.eval()
    with torch.no_grad():
        looked = recipe(config)[-1].step(module, images, context()).terms
        u = module.registrar.register(
            images.moving.image, images.fixed.image, torch.Generator()
        ).displacement
    warped = Sample(warp(images.moving.image, u, padding="zeros"), images.moving.spacing)
    with torch.no_grad():
        expected = recipe(plain)[-1].step(module, Pair(images.fixed, warped), context()).terms
        unwarped = recipe(plain)[-1].step(module, images, context()).terms
    assert float(looked["pixels"]) == pytest.approx(float(expected["pixels"]), rel=1e-5)
    assert float(looked["pixels"]) != pytest.approx(float(unwarped["pixels"]), rel=1e-2)


def test_a_teacher_is_the_distance_from_instance_optimisation():
    config = preset(teacher=2.0, noise="none")
    module = start(recipe(config)[-1], config, chain(config, 1))
    images = shifted_pair(SMALL, (1, -2))
    with torch.no_grad():
        terms = recipe(config)[-1].step(module, images, context()).terms
        plain = recipe(preset(noise="none"))[-1].step(module, images, context()).terms
        u = module.registrar.register(
            images.moving.image, images.fixed.image, torch.Generator()
        ).displacement
    taught = optimise(images, TEACHER, context()).displacement
    assert taught.abs().max() > 0.5
    distance = (u - taught).norm(dim=1).mean()
    assert float(terms["teacher"]) == pytest.approx(2 * float(distance), rel=0.05)
    assert set(terms) == {*plain, "teacher"}
    overfit(recipe(config)[-1], module, images, 12)
    with torch.no_grad():
        after = recipe(config)[-1].step(module, images, context()).terms["teacher"]
    assert after < 0.8 * terms["teacher"]


def test_a_velocity_is_integrated_and_smoothed_itself():
    config = preset(integrate=5, noise="none")
    stage = recipe(config)[-1]
    module = start(stage, config, chain(config, 1))
    torch.nn.init.normal_(module.registrar.registration.head.convolution.weight, 0, 0.05)
    module.eval()
    images = shifted_pair((32, 64), (1, -2))  # nothing to pad
    with torch.no_grad():
        found = module.registrar.register(
            images.moving.image, images.fixed.image, torch.Generator()
        )
        terms = stage.step(module, images, context()).terms
    torch.testing.assert_close(found.displacement, integrate(found.field, 5))
    assert (found.displacement - found.field).abs().max() > 1e-3
    weight = config["training"]["smoothness"]
    assert float(terms["smoothness"]) == pytest.approx(weight * float(diffusion(found.field)))


def autoencoder_stage(**changes):
    config = preset()
    config["training"]["stages"]["autoencoder"].update(changes)
    return config, recipe(config)[0]


def test_the_autoencoder_learns_an_image():
    torch.manual_seed(0)
    config, stage = autoencoder_stage(quantise_from=30)
    module, images = start(stage, config, {}), shifted_pair(SMALL, (1, -2))

    def error(step: int) -> float:
        with torch.no_grad():
            return float(stage.step(module, images, context(step=step)).terms["reconstruction"])

    before = error(0)
    overfit(stage, module, images, 80)
    assert error(100) < 0.5 * before
    codes = module.autoencoder.vq.quantize.embedding.weight
    assert codes.std() > 0.1 * module.autoencoder.spread


def test_codes_start_where_the_latents_are():
    model = Autoencoder(preset()["network"]["autoencoder"])
    z = 3 + 2 * torch.randn(2, 1, 16, 16)
    model.spread_codes(z, torch.Generator().manual_seed(0))
    codes = model.vq.quantize.embedding.weight
    assert codes.min() == z.min() and codes.max() == z.max()
    _, loss = model.decode(z, quantise=True)
    assert loss < 0.01
    wide = Autoencoder({**preset()["network"]["autoencoder"], "channels": 3})
    z = torch.randn(2, 3, 16, 16)
    wide.spread_codes(z, torch.Generator().manual_seed(0))
    vectors = z.movedim(1, -1).reshape(-1, 3)
    codes = wide.vq.quantize.embedding.weight
    assert (codes[:, None] == vectors).all(-1).any(1).all()


def test_without_the_quantiser_there_is_no_code_loss():
    config, stage = autoencoder_stage(quantiser=False)
    terms = stage.step(start(stage, config, {}), shifted_pair(SMALL, (1, -2)), context()).terms
    assert set(terms) == {"reconstruction"}


def test_the_critic_joins_at_its_step():
    config, stage = autoencoder_stage(gan=True, gan_from=5)
    module, images = start(stage, config, {}), shifted_pair(SMALL, (1, -2))
    assert [o.name for o in stage.optimisers] == ["main", "critic"]
    early, late = (stage.step(module, images, context(step=k)).terms for k in (4, 5))
    assert set(late) - set(early) == {"adversarial"}
    for step, active in ((4, False), (5, True)):
        terms = stage.step(module, images, context(step=step, optimiser="critic")).terms
        module.zero_grad()
        terms["hinge"].backward()
        moved = sum(float(p.grad.abs().sum()) for p in module.critic.parameters())
        assert (moved > 0) == active


def test_hinge_and_adaptive_weight():
    assert float(hinge(torch.tensor([2.0]), torch.tensor([-2.0]))) == 0
    assert float(hinge(torch.tensor([0.0]), torch.tensor([0.0]))) == 1
    last = torch.ones(3, requires_grad=True)
    weight = adaptive_weight((6 * last).sum(), (2 * last).sum(), last)
    assert float(weight) == pytest.approx(3.0, rel=1e-3)
    assert sum(p.numel() for p in PatchCritic().parameters()) == 2_763_585


def test_lpips_weights_are_asked_for_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lpips, "_WIDTHS", ((4, 4), (4, 4), (4, 4, 4), (4, 4, 4), (4, 4, 4)))
    network = LPIPS()
    released = {k: v.abs() for k, v in network.state_dict().items()}
    file = tmp_path / "lpips.safetensors"
    save_file({_released(k): v for k, v in released.items()}, str(file))
    loaded = load_lpips(str(file))
    a, b = torch.rand(2, 2, 1, 32, 32)
    assert float(loaded(a, a)) == 0 < float(loaded(a, b))
    config, stage = autoencoder_stage(lpips=str(file))
    module = start(stage, config, {})
    terms = stage.step(module, shifted_pair(SMALL, (1, -2)), context()).terms
    assert float(terms["lpips"].detach()) > 0
    assert not [name for name in module.state_dict() if "features" in name or "lin" in name]

    incomplete = tmp_path / "part.safetensors"
    save_file({"features.0.weight": released["features.0.weight"]}, str(incomplete))
    with pytest.raises(InputError, match=r"features\.0\.bias"):
        load_lpips(str(incomplete))
    with pytest.raises(InputError, match="safetensors"):
        load_lpips(str(tmp_path / "lpips.pth"))
    with pytest.raises(InputError, match="no such file"):
        load_lpips(str(tmp_path / "absent.safetensors"))


def _released(name: str) -> str:
    """The name a tensor has in the LPIPS release."""
    parts = name.split(".")
    return f"lin{parts[1]}.model.1.weight" if parts[0] == "lin" else name


def test_lpips_has_the_size_of_vgg16():
    with torch.device("meta"):
        network = LPIPS()
    assert sum(p.numel() for p in network.features.parameters()) == 14_714_688
    assert sum(p.numel() for p in network.lin.parameters()) == 1_472


QUICK = ["steps=2", "batch=1", "stages.autoencoder.steps=2", "stages.diffusion.steps=2",
         "stages.autoencoder.batch=1", "stages.diffusion.batch=1"]  # fmt: skip


def request(folder: Path, **changes) -> TrainRequest:
    given = {"method": "ldm-morph", "preset": "trial", "data": ["phantom:heart2d?n=3&seed=0"],
             "device": "cpu", "threads": 1, "assignments": QUICK}  # fmt: skip
    return TrainRequest(output=folder, **{**given, **changes})


def test_a_run_of_three_stages_leaves_weights_with_the_hashes_of_its_frozen_parts(tmp_path: Path):
    result = train(request(tmp_path))
    assert result.ending == "finished" and result.weights is not None
    config = json.loads((result.weights / "config.json").read_text())
    frozen = config["training"]["frozen"]
    assert set(frozen) == {"registrar.encoder", "registrar.denoiser"}
    _, state = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert state["frozen"] == frozen
    stage = recipe(LDM_MORPH["trial"])[-1]
    done = chain(LDM_MORPH["trial"], 0)
    module = stage.build(LDM_MORPH["trial"], done)
    module.load_state_dict(load_file(tmp_path / "stages" / "registration.safetensors"))
    assert fingerprints(module, stage.freezes) == frozen
    assert {n.split(".")[0] for n in load_file(result.weights / "model.safetensors")} == {
        "encoder", "denoiser", "registration"
    }  # fmt: skip

    again = [*QUICK, "beta=0.8", f"earlier_run={tmp_path}"]
    second = train(request(tmp_path / "row", assignments=again))
    weights = [*QUICK, f"earlier_run={result.weights}"]
    third = train(request(tmp_path / "from_weights", assignments=weights))
    halved = json.loads((third.weights / "config.json").read_text())["training"]["frozen"]
    assert set(halved) == set(frozen)  # weights are kept in half precision
    config = json.loads((second.weights / "config.json").read_text())
    assert config["training"]["frozen"] == frozen
    assert str(tmp_path) not in json.dumps(config)
    with pytest.raises(InputError, match="has trained the first stages"):
        finished_stages(str(tmp_path / "row"), LDM_MORPH["trial"]["network"])
    with pytest.raises(InputError, match="does not fit"):
        finished_stages(str(tmp_path), LDM_MORPH["compact"]["network"])

    other = tmp_path / "stages" / "autoencoder.safetensors"
    tensors = load_file(other)
    name = next(n for n in tensors if ".encoder." in n)
    save_file({**tensors, name: tensors[name] + 1}, str(other), metadata={"format": "pt"})
    with pytest.raises(UsageError, match="frozen"):
        train(TrainRequest(output=tmp_path, resume=True, device="cpu",
                           stage="registration", steps=3))  # fmt: skip
