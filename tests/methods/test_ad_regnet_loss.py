"""AD-RegNet's loss by its formula: similarity, smoothness, landmarks, second looks, regions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ad_regnet_loss_cases import NONE, PAPER, SHAPE, Toy, a_field, a_pair, terms

from regtool.api import Context, Pair, UsageError
from regtool.api.losses import fold_penalty, local_ncc, mind_ssc, mse, ssim_loss
from regtool.spatial.compose import compose
from regtool.spatial.warp import warp
from regtool_ad_regnet.loss import ADRegNetLoss, displacement_of, levels_distance
from regtool_ad_regnet.network import ADRegNet


def test_the_paper_is_ncc_ssim_smoothness_and_jacobian():
    """METHODS 7.3 with the inner weights of AD-4, each part from NumPy or its own function."""
    pair, u = a_pair(), a_field()
    warped = warp(pair.moving.image, u)
    f, w = pair.fixed.image, warped
    r = np.corrcoef(f.numpy().ravel(), w.numpy().ravel())[0, 1]
    found = terms(pair, u)
    assert set(found) == {"similarity", "smoothness", "jacobian"}
    assert found["similarity"] == pytest.approx(1 - r + float(ssim_loss(f, w, 7)), rel=1e-4)
    steps = [np.diff(u.numpy(), axis=a) ** 2 for a in (2, 3, 4)]
    rough = np.mean([s.mean() for s in steps])
    assert found["smoothness"] == pytest.approx(0.1 * rough, rel=1e-4)
    assert found["jacobian"] == pytest.approx(0.1 * float(fold_penalty(u)), rel=1e-4)
    assert found["jacobian"] > 0


def test_every_weight_scales_its_part():
    pair, u = a_pair(), a_field()
    f, w = pair.fixed.image, warp(pair.moving.image, u)
    parts = {
        "local_ncc": local_ncc(f, w, 5),
        "mse": mse(f, w),
        "mind": mse(mind_ssc(f), mind_ssc(w)),
    }
    for name, value in parts.items():
        found = terms(pair, u, similarity={**NONE, name: 3.0}, ncc_window=5, lambda_similarity=2.0)
        assert found["similarity"] == pytest.approx(6 * float(value), rel=1e-4)
    assert "similarity" not in terms(pair, u, similarity=NONE)
    doubled = terms(pair, u, lambda_regularity=0.2, smoothness=3.0, jacobian=0.0)
    assert doubled["smoothness"] == pytest.approx(6 * terms(pair, u)["smoothness"], rel=1e-4)
    assert "jacobian" not in doubled
    in_mm = np.mean([
        ((np.diff(u.numpy(), axis=2 + a) * np.reshape([3, 1, 1.5], (1, 3, 1, 1, 1))
          / (3.0, 1.0, 1.5)[a]) ** 2).mean()
        for a in range(3)
    ])  # fmt: skip
    assert terms(pair, u, units="mm")["smoothness"] == pytest.approx(0.1 * in_mm, rel=1e-4)
    apart = (u - pair.field).square().sum(1).add(0.01).sqrt().mean()
    assert terms(pair, u, known_field=0.5)["known_field"] == pytest.approx(0.5 * float(apart))


def test_landmarks_count_in_folds_only():
    pair = a_pair()
    assert pair.fixed.points is not None and pair.moving.points is not None
    u = torch.zeros(1, 3, *SHAPE)
    u[:, 1] = 2.0
    mm = torch.tensor([3.0, 1.0, 1.5])
    apart = (pair.fixed.points + torch.tensor([0.0, 2.0, 0.0]) - pair.moving.points) * mm
    expected = float(apart.norm(dim=-1).mean())
    assert "landmarks" not in terms(pair, u)
    with_folds = terms(pair, u, landmark_folds=5, lambda_landmarks=0.5)
    assert with_folds["landmarks"] == pytest.approx(0.5 * expected, rel=1e-5)
    bare = Pair(replace(pair.fixed, points=None), pair.moving)
    assert "landmarks" not in terms(bare, u, landmark_folds=5)


def test_similarity_is_of_the_images_before_their_contrast_was_invented():
    pair, u = a_pair(), a_field()
    other = Pair(
        replace(pair.fixed, image=1 - pair.fixed.image, original=pair.fixed.image),
        replace(pair.moving, image=pair.moving.image.sqrt(), original=pair.moving.image),
    )
    assert terms(other, u) == terms(pair, u)
    toy = Toy(u)
    displacement_of(toy, other)
    assert torch.equal(toy.seen[0][0], other.fixed.image)  # the network sees the new contrast
    assert torch.equal(toy.seen[0][1], other.moving.image)


def test_a_second_look_counts_the_whole_way():
    """The second pass sees the warped image; similarity and landmarks are of both together."""
    pair, u = a_pair(), a_field()
    toy = Toy(u)
    context = Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)
    output = ADRegNetLoss({**PAPER, "second_look": 1.0})(toy, pair, context)
    assert len(toy.seen) == 2
    assert torch.allclose(toy.seen[1][1], warp(pair.moving.image, u))
    assert output.prediction is not None and output.prediction.displacement is not None
    torch.testing.assert_close(output.prediction.displacement, compose(u, u))
    once = terms(pair, compose(u, u))
    assert float(output.terms["similarity"].detach()) == pytest.approx(once["similarity"], rel=1e-5)
    alone = terms(pair, u)["smoothness"]  # of what the network puts out
    assert float(output.terms["smoothness"].detach()) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"similarity": {"psnr": 1.0}}, "similarity 'psnr'"), ({"units": "inch"}, "units 'inch'")],
)
def test_settings_that_are_none(changes, message):
    with pytest.raises(UsageError, match=message):
        ADRegNetLoss({**PAPER, **changes})


def test_known_levels_by_hand():
    """A field of 3 voxels along x: level voxels of 4 and 2 image voxels, over an image of 6."""
    field = torch.zeros(1, 3, 6, 6, 6)
    field[:, 2] = 3.0
    levels = [torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 3, 4, 4, 4)]
    levels[0][:, 2] = 0.75  # 3 voxels of the image
    levels[1][:, 2] = 0.5  # 1 voxel of the image: 2 are missing
    found = levels_distance(levels, (4, 2), field)
    assert float(found) == pytest.approx(0.1 + math.sqrt(4 + 0.01), abs=1e-5)


def test_regions_gate():
    """The regional map, the largest value of which is 1, holds levels back unless that is off."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"heads": 2, "gate": 4, "patch": 4, "window": 2, "cap": 8}
    bound = ADRegNet((4, 8), **sizes).eval()
    free = ADRegNet((4, 8), **sizes, regions_gate=False).eval()
    free.load_state_dict(bound.state_dict())
    f, m = torch.rand(2, 1, 1, 8, 8, 8)
    with torch.no_grad():
        held, own = (network(f, m).answers[1] for network in (bound, free))
    torch.testing.assert_close(held.weight, own.weight * own.importance)
    assert held.importance.min() < 1 == own.importance.max()
