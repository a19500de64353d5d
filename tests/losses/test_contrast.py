"""Similarities for different contrasts: mutual information and MIND-SSC."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from regtool.losses.mind import mind_ssc
from regtool.losses.mutual_information import mutual_information, mutual_information_gradient
from regtool.losses.ncc import local_ncc, local_ncc_gradient
from regtool.spatial.smooth import gaussian


def random(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    image = gaussian(random(1, 1, *shape, seed=seed), 2.0)
    return (image - image.min()) / (image.max() - image.min())


def dense(fixed: torch.Tensor, moving: torch.Tensor, bins: int) -> float:
    """Mutual information by the definition, voxel by voxel, in NumPy."""
    joint = np.zeros((bins, bins))

    def spline(t: float) -> float:
        t = abs(t)
        if t < 1:
            return (4 - 6 * t**2 + 3 * t**3) / 6
        return (2 - t) ** 3 / 6 if t < 2 else 0.0

    for f, m in zip(fixed.flatten().tolist(), moving.flatten().tolist(), strict=True):
        at = m * (bins - 4) + 1.5
        for k in range(bins):
            joint[round(f * (bins - 1)), k] += spline(k - at)
    joint /= joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / independent[some])).sum())


@pytest.mark.parametrize("bins", [8, 16])
def test_mutual_information_is_what_its_definition_says(bins):
    fixed, moving = random(1, 1, 9, 11), random(1, 1, 9, 11, seed=1)
    assert -float(mutual_information(fixed, moving, bins)) == pytest.approx(
        dense(fixed, moving, bins), abs=1e-12
    )


def test_its_gradient_is_exact():
    fixed = random(2, 1, 12, 9)
    moving = (0.2 + 0.6 * random(2, 1, 12, 9, seed=1)).requires_grad_(True)
    mask = random(1, 1, 12, 9, seed=2)
    assert torch.autograd.gradcheck(
        lambda m: mutual_information(fixed, m, 16, mask), (moving,), eps=1e-6, atol=1e-7
    )
    values, gradient = mutual_information_gradient(fixed, moving.detach(), 16, mask)
    total = mutual_information(fixed, moving, 16, mask)
    (other,) = torch.autograd.grad(total, moving)
    assert torch.allclose(values.mean(), total)
    assert torch.allclose(gradient / 2, other)


def test_it_sees_through_any_map_of_grey_values():
    image, other = smooth(40, 40), smooth(40, 40, seed=5)
    mapped = (torch.sin(image * 5) + 1) / 2
    same = float(mutual_information(image, mapped))
    assert same < float(mutual_information(image, other)) - 0.5
    assert (
        abs(float(mutual_information(random(1, 1, 400, 400), random(1, 1, 400, 400, seed=1))))
        < 0.01
    )


def test_a_mask_decides_which_voxels_count():
    fixed, moving = random(1, 1, 16, 16), random(1, 1, 16, 16, seed=1)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    mask[..., :8, :] = 1
    inside = mutual_information(fixed[..., :8, :], moving[..., :8, :])
    assert torch.allclose(mutual_information(fixed, moving, mask=mask), inside)


@pytest.mark.parametrize("shape", [(20, 18), (12, 14, 13)])
def test_mind_is_blind_to_contrast_and_bounded(shape):
    image = smooth(*shape)
    found = mind_ssc(image)
    assert found.shape == (1, {2: 4, 3: 12}[len(shape)], *shape)
    assert found.min() >= 0
    assert found.amax(1).min() == 1  # the most similar pair of patches
    assert torch.allclose(mind_ssc(1 - image), found)
    assert torch.allclose(mind_ssc(0.3 * image + 0.1), found, atol=1e-9)


def test_mind_compares_the_patches_that_it_says():
    """Against the definition, at one voxel far from the border."""
    image = random(1, 1, 24, 24)
    found = mind_ssc(image, radius=1, dilation=2)[0, :, 12, 11]
    x = image[0, 0]

    def patch(i: int, j: int) -> torch.Tensor:
        return x[i - 1 : i + 2, j - 1 : j + 2]

    around = [(-2, 0), (2, 0), (0, -2), (0, 2)]
    pairs = [(a, b) for a, b in itertools.combinations(around, 2) if (a[0] == 0) != (b[0] == 0)]
    d = torch.stack(
        [(patch(12 + a[0], 11 + a[1]) - patch(12 + b[0], 11 + b[1])).square().mean()
         for a, b in pairs]
    )  # fmt: skip
    d = d - d.min()
    assert torch.allclose(found, torch.exp(-d / d.mean()))


def test_thin_stacks_and_wrong_shapes():
    assert mind_ssc(random(1, 1, 3, 20, 20)).isfinite().all()
    with pytest.raises(ValueError, match="not"):
        mind_ssc(random(1, 2, 20, 20))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(20, 22), (9, 12, 11)])
def test_local_correlation_with_its_gradient_is_the_loss_itself(shape, masked):
    fixed = random(2, 1, *shape)
    moving = random(2, 1, *shape, seed=1).requires_grad_(True)
    mask = random(2, 1, *shape, seed=2) if masked else None
    values, gradient = local_ncc_gradient(fixed, moving.detach(), 5, mask, neutral=True)
    for b in range(2):
        one = None if mask is None else mask[b : b + 1]
        loss = local_ncc(fixed[b : b + 1], moving[b : b + 1], 5, one, neutral=True)
        (other,) = torch.autograd.grad(loss, moving)
        assert math.isclose(loss.item(), values[b].item(), abs_tol=1e-12)
        assert torch.allclose(gradient[b], other[b])
