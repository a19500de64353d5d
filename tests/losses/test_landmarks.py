"""Correlation of whole images and distance of landmarks, against NumPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regtool.losses.correlation import global_ncc
from regtool.losses.landmarks import landmark_distance, landmark_distances
from regtool.losses.mind import mind_ssc


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlation_is_pearsons():
    f, m = rand(2, 1, 4, 5, 6), rand(2, 1, 4, 5, 6, seed=1) ** 2
    expected = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(f.numpy(), m.numpy(), strict=True)
    ]
    assert float(global_ncc(f, m)) == pytest.approx(-np.mean(expected), abs=1e-9)
    assert float(global_ncc(f, 3 * f + 1)) == pytest.approx(-1)
    assert float(global_ncc(f, -f)) == pytest.approx(1)


def test_correlation_inside_a_mask():
    f, m = rand(1, 1, 8, 8), rand(1, 1, 8, 8, seed=1)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    expected = np.corrcoef(f[..., :4].numpy().ravel(), m[..., :4].numpy().ravel())[0, 1]
    assert float(global_ncc(f, m, mask)) == pytest.approx(-expected, abs=1e-9)


def test_correlation_of_flat_images_is_finite():
    m = torch.full((1, 1, 4, 4), 0.5, requires_grad=True)
    loss = global_ncc(torch.full((1, 1, 4, 4), 0.2), m)
    loss.backward()
    assert loss == 0
    assert m.grad is not None
    assert torch.isfinite(m.grad).all()
    with pytest.raises(ValueError, match="one shape"):
        global_ncc(m, m[..., :2])


def test_gradient_of_the_correlation():
    f, m = rand(2, 1, 3, 4), rand(2, 1, 3, 4, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(global_ncc(f, m), m)
    step = 1e-6 * rand(2, 1, 3, 4, seed=2)
    with torch.no_grad():
        change = global_ncc(f, m + step) - global_ncc(f, m - step)
    assert float((slope * step).sum() * 2) == pytest.approx(float(change), rel=1e-5)


def test_distances_are_euclidean_in_mm():
    """Two landmarks on voxels of a field that varies, one between two voxels."""
    u = torch.zeros(1, 3, 4, 5, 6, dtype=torch.float64)
    u[0, :, 1, 2, 3] = torch.tensor([1.0, -0.5, 2.0])
    fixed = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, 2.0, 2.5]]])
    moving = torch.tensor([[[2.0, 2.0, 3.0], [0.0, 3.0, 4.0], [1.0, 2.0, 2.5]]])
    spacing = (2.5, 2.0, 0.5)
    by_hand = [
        np.linalg.norm(np.array([0.0, -0.5, 2.0]) * spacing),
        np.linalg.norm(np.array([0.0, 3.0, 4.0]) * spacing),
        np.linalg.norm(np.array([0.5, -0.25, 1.0]) * spacing),
    ]
    found = landmark_distances(u, fixed, moving, spacing)
    assert found.tolist() == pytest.approx(by_hand)
    assert float(landmark_distance(u, fixed, moving, spacing)) == pytest.approx(np.mean(by_hand))


def test_landmarks_outside_the_fixed_grid_do_not_count():
    u = torch.zeros(2, 2, 4, 4, requires_grad=True)
    fixed = torch.tensor([[[-0.5, 1.0], [1.0, 1.0]], [[3.5, 0.0], [0.0, 4.0]]])
    moving = torch.tensor([[[9.0, 9.0], [1.0, 7.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert landmark_distances(u, fixed, moving, (1.0, 1.0)).tolist() == [6.0]
    none = landmark_distance(u[1:], fixed[1:], moving[1:], (1.0, 1.0))
    none.backward()
    assert none == 0
    with pytest.raises(ValueError, match=r"\(B, N, ndim\)"):
        landmark_distance(u, fixed[:1], moving, (1.0, 1.0))


def test_the_gradient_takes_fixed_points_to_moving_points():
    """Pull-back: at the fixed landmark the field has to become x_M - x_F."""
    u = torch.zeros(1, 2, 7, 7, requires_grad=True)
    fixed, moving = torch.tensor([[[3.0, 3.0]]]), torch.tensor([[[3.0, 5.0]]])
    for _ in range(25):
        (slope,) = torch.autograd.grad(landmark_distance(u, fixed, moving, (1.0, 1.0)), u)
        u.data -= 0.1 * slope
    assert u[0, :, 3, 3].tolist() == pytest.approx([0.0, 2.0], abs=0.1)
    still = torch.zeros(1, 2, 7, 7, requires_grad=True)
    landmark_distance(still, fixed, fixed, (1.0, 1.0)).backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()  # at the goal the norm has no slope


def test_mind_forgives_inverted_contrast():
    f = rand(1, 1, 10, 10, 10)
    other = rand(1, 1, 10, 10, 10, seed=1)
    apart = (mind_ssc(f) - mind_ssc(1 - f)).square().mean()
    assert apart < 1e-6
    assert (mind_ssc(f) - mind_ssc(other)).square().mean() > 1e-2
