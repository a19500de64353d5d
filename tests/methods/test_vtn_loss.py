"""VTN: the losses by hand, presets, and what a pair teaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from vtn_cases import NARROW, PAPER, balls, context, lively, pair_of, small

from regtool.api import Pair, Sample, UsageError
from regtool.engine.training.validate import displacement_of
from regtool.losses.ssim import ssim_map
from regtool.spatial.warp import warp
from regtool_vtn.loss import (
    SIMILARITIES,
    CascadeLoss,
    linear_part,
    orthogonality_term,
    volume_term,
)
from regtool_vtn.model import Cascaded
from regtool_vtn.options import VTNOptions
from regtool_vtn.presets import VTN as PRESETS
from regtool_vtn.recipe import recipe

# -- the losses --------------------------------------------------------------------------------


def test_the_affine_terms_by_hand():
    assert float(orthogonality_term(torch.eye(3)[None])) == pytest.approx(0, abs=1e-5)
    assert float(volume_term(torch.eye(3)[None])) == 0
    turn = torch.tensor([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    assert float(orthogonality_term(turn[None])) == pytest.approx(0, abs=1e-5)
    # A^T A has the eigenvalues 4, 1 and 1/4: 4 + 1/4, 1 + 1, 1/4 + 4, less 6
    stretched = turn @ torch.diag(torch.tensor([2.0, 1.0, 0.5]))
    assert float(orthogonality_term(stretched[None])) == pytest.approx(4.5, rel=1e-3)
    assert float(volume_term(stretched[None])) == pytest.approx(0, abs=1e-6)
    doubled = torch.stack([torch.diag(torch.tensor([2.0, 1.0, 1.0])), -torch.eye(3)])
    assert float(volume_term(doubled)) == pytest.approx(0.5 * 1 + 0.5 * 4)
    assert float(orthogonality_term(torch.diag(torch.tensor([3.0, 1.0]))[None])) == pytest.approx(
        9 + 1 / 9 - 2, rel=1e-3
    )


def test_orthogonality_agrees_with_the_eigenvalues():
    a = torch.eye(3, dtype=torch.float64) + 0.3 * torch.randn(
        5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    k = torch.linalg.eigvalsh(a.mT @ a)
    assert float(orthogonality_term(a)) == pytest.approx(float((k + 1 / k - 2).sum()), rel=1e-2)


def test_a_rotation_of_thick_slices_is_orthogonal_in_millimetres():
    spacing = (6.0, 2.0, 2.0)
    turn = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    mm = torch.tensor(spacing)
    matrix = torch.eye(4)
    matrix[:3, :3] = turn / mm[:, None] * mm
    voxels, millimetres = (linear_part(matrix[None], unit) for unit in (None, spacing))
    assert torch.allclose(millimetres[0], turn, atol=1e-6)
    assert float(orthogonality_term(millimetres)) == pytest.approx(0, abs=1e-5)
    assert float(orthogonality_term(voxels)) > 1


def test_similarities_by_hand():
    images = pair_of((16, 16, 16), batch=2)
    fixed, warped = images.fixed.image, images.moving.image
    r = [np.corrcoef(f.flatten().numpy(), w.flatten().numpy())[0, 1]
         for f, w in zip(fixed, warped, strict=True)]  # fmt: skip
    assert float(SIMILARITIES["pearson"](fixed, warped)) == pytest.approx(2 - sum(r), rel=1e-3)
    assert float(SIMILARITIES["pearson"](fixed, 0.3 * fixed + 0.1)) == pytest.approx(0, abs=1e-2)
    ssim = ssim_map(2 * fixed - 1, 2 * warped - 1, 15, 2.5, 2.0).mean()
    assert float(SIMILARITIES["ssim"](fixed, warped)) == pytest.approx(1 - float(ssim), rel=1e-5)
    assert float(SIMILARITIES["ssim"](fixed, fixed)) == pytest.approx(0, abs=1e-6)
    assert float(SIMILARITIES["ncc"](fixed, fixed)) < float(SIMILARITIES["ncc"](fixed, warped))


def test_the_loss_is_the_papers():
    """1 - SSIM of the last warp, the smoothness of each stem, 0.1 of both affine terms."""
    model, pair = lively(), pair_of((16, 16, 16), batch=2)
    with torch.no_grad():
        output = CascadeLoss(PAPER)(model, pair, context())
        found = model.look(pair.moving.image, pair.fixed.image)
    warped = warp(pair.moving.image, found.total, padding="zeros")
    smooth = 0.0
    for u in found.fields:
        smooth += sum(float(torch.diff(u, dim=d).square().mean()) for d in (2, 3, 4)) / 3
    a = found.affine[:, :3, :3].double()
    k = torch.linalg.eigvalsh(a.mT @ a)
    wanted = {
        "similarity": 1 - float(
            ssim_map(2 * pair.fixed.image - 1, 2 * warped - 1, 15, 2.5, 2.0).mean()
        ),
        "smoothness": smooth,
        "determinant": 0.1 * float((torch.linalg.det(a) - 1).square().sum() / 2),
        "orthogonality": 0.1 * float((k + 1 / k - 2).sum()),
    }  # fmt: skip
    assert {k: float(v) for k, v in output.terms.items()} == pytest.approx(wanted, rel=1e-2)
    assert torch.equal(output.prediction.displacement, found.displacement)
    assert torch.equal(output.prediction.affine, found.affine)


def test_only_the_last_warp_is_compared_but_every_part_learns():
    model, pair = lively(), pair_of((16, 16, 32))
    terms = CascadeLoss(PAPER)(model, pair, context()).terms
    terms["similarity"].backward()
    for part in (model.affine, *model.stems):
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


def test_smoothness_in_millimetres_lets_thick_slices_move_apart():
    u = torch.zeros(1, 3, 2, 2, 2)
    u[:, 1, 1] = 1.0  # the second slice is a voxel further along y
    sample = Sample(torch.rand(1, 1, 2, 2, 2), (6.0, 2.0, 2.0))
    found = Cascaded(torch.eye(4)[None], (2, 2, 2)).after(u, u).after(u, u)
    for units, each in (("voxels", 1 / 9), ("mm", (2 / 6) ** 2 / 9)):
        loss = CascadeLoss({**PAPER, "similarity": "mse", "units": units})
        terms = loss.judged(found, Pair(sample, sample), context()).terms
        assert float(terms["smoothness"]) == pytest.approx(2 * each)


def test_a_second_look_trains_the_stems_on_what_was_warped():
    model, pair = lively(), pair_of((16, 16, 16))
    settings = {**PAPER, "similarity": "mse", "second_look": 1.0}
    output = CascadeLoss(settings)(model, pair, context())
    with torch.no_grad():
        wanted = model(pair, VTNOptions(passes=2), context())
        alone = model.look(pair.moving.image, pair.fixed.image, passes=2).fields[3:]
    assert torch.allclose(output.prediction.displacement, wanted.displacement, atol=1e-5)
    smooth = sum(torch.diff(u, dim=d).square().mean() / 3 for u in alone for d in (2, 3, 4))
    assert float(output.terms["smoothness"].detach()) == pytest.approx(float(smooth), rel=1e-4)
    sum(output.terms.values()).backward()
    assert all(p.grad is None for p in model.affine.parameters())
    assert all(p.grad is not None for stem in model.stems for p in stem.parameters())


def test_a_teacher_draws_the_whole_transform_to_instance_optimisation():
    from regtool.engine.optimisation.teacher import taught

    pair = balls()
    with torch.no_grad():
        terms = CascadeLoss({**PAPER, "teacher": 3.0})(small(), pair, context()).terms
    u = taught(pair, context())
    still = u.square().sum(1).add(0.01).sqrt().mean()
    assert u.abs().max() > 1
    assert float(terms["teacher"]) == pytest.approx(3 * float(still), rel=0.02)


@pytest.mark.parametrize("wrong", [{"similarity": "mi"}, {"units": "cm"}])
def test_a_wrong_word_is_a_usage_error(wrong):
    with pytest.raises(UsageError):
        CascadeLoss({**PAPER, **wrong})


# -- presets and training ----------------------------------------------------------------------


def test_the_paper_preset_has_the_papers_settings():
    preset = PRESETS["paper"]
    training, network = preset["training"], preset["network"]
    assert next(iter(PRESETS)) == "paper"
    assert (preset["preparation"]["size"], preset["preparation"]["spacing"]) == (
        (32, 128, 128), (3.15, 1.5, 1.5),
    )  # fmt: skip
    weights = ("similarity", "smoothness", "determinant", "orthogonality")
    assert [training[f"lambda_{name}"] for name in weights] == [1.0, 1.0, 0.1, 0.1]
    assert (training["similarity"], training["units"], training["batch"]) == ("ssim", "voxels", 2)
    assert not any(training[key] for key in ("second_look", "teacher", "clip", "ema"))
    assert network == {
        "widths": (16, 32, 64, 128), "stems": 3, "affine": "fixed", "size": (32, 128, 128),
        "flow_init": None, "integrate": 0, "input_activation": True, "start": "torch",
    }  # fmt: skip
    (stage,) = recipe(preset)
    (optimiser,) = stage.optimisers
    assert (optimiser.kind, optimiser.lr, stage.batch, stage.steps) == ("Adam", 1e-4, 2, 100_000)
    assert optimiser.schedule.kind == "constant" and optimiser.clip_norm is None
    assert not optimiser.arguments


def test_the_slices_stage_learns_from_slices_with_its_own_settings():
    preset = {**PRESETS["acdc-3d"], "network": {**PRESETS["acdc-3d"]["network"], "widths": NARROW}}
    flat, solid = recipe(preset)
    assert (flat.name, solid.name) == ("slices", "registration")
    assert not flat.registers and solid.registers
    assert flat.optimisers[0].clip_norm == solid.optimisers[0].clip_norm == 1.0
    assert flat.optimisers[0].lr > solid.optimisers[0].lr
    module = flat.build(preset, {})
    assert {p.dim() for p in module.stems.parameters()} == {1, 4}
    output = flat.step(module, pair_of((5, 16, 16)), context())
    assert output.prediction is None and torch.isfinite(torch.stack([*output.terms.values()])).all()
    inflated = solid.build(preset, {"slices": module})
    kernel = inflated.stems[0].encoder.down[3].weight[:, :, 1]
    assert torch.equal(kernel, module.stems[0].encoder.down[3].weight)


def test_overfits_one_pair():
    torch.manual_seed(0)
    preset = {
        **PRESETS["acdc-3d"],
        "network": {**PRESETS["acdc-3d"]["network"], "widths": (8, 8, 16, 16), "integrate": 2},
        "training": {**PRESETS["acdc-3d"]["training"], "teacher": 0.0, "slices_first": None},
    }
    (stage,) = recipe(preset)
    module, pair = stage.build(preset, {}), balls()

    def overlap() -> float:
        with torch.no_grad():
            u = displacement_of(module(pair, VTNOptions(), context()))
        ball, fixed = warp(pair.moving.labels.float(), u, mode="nearest"), pair.fixed.labels
        return float(2 * (ball * fixed).sum() / (ball.sum() + fixed.sum()))

    optimiser, running = torch.optim.Adam(module.parameters(), lr=2e-3), context()
    assert overlap() < 0.5
    for _ in range(60):
        loss = sum(stage.step(module, pair, running).terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert overlap() > 0.85
