"""Composition, integration, inversion, resizing and smoothing of displacements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from regtool.spatial.compose import affine_to_displacement, apply_affine, compose, compose_affine
from regtool.spatial.integrate import integrate
from regtool.spatial.invert import invert
from regtool.spatial.jacobian import jacobian_determinant
from regtool.spatial.resize import resize, resize_image
from regtool.spatial.smooth import gaussian, gaussian_weights, separable_filter
from regtool.spatial.warp import identity, warp


def smooth_field(shape, size, seed=0, dtype=torch.float64, sigma=3.0):
    g = torch.Generator().manual_seed(seed)
    u = gaussian(torch.randn(1, len(shape), *shape, generator=g, dtype=dtype), sigma)
    return u / u.abs().max() * size


def inner(x, k=4):
    return x[(..., *[slice(k, -k)] * (x.dim() - 2))]


def matrix(ndim, seed, scale=0.1):
    g = torch.Generator().manual_seed(seed)
    m = torch.eye(ndim + 1, dtype=torch.float64)
    m[:ndim] += scale * torch.randn(ndim, ndim + 1, generator=g, dtype=torch.float64)
    return m[None]


@settings(max_examples=20, deadline=None)
@given(ndim=st.integers(2, 3), seed=st.integers(0, 99))
def test_affine_displacements_compose_like_matrices(ndim, seed):
    shape = (9, 10, 11)[:ndim]
    a, b = matrix(ndim, seed, 0.02), matrix(ndim, seed + 1)
    points = identity(shape, dtype=torch.float64)[None]
    u = affine_to_displacement(b, shape)
    torch.testing.assert_close(points + u, apply_affine(b, points))
    torch.testing.assert_close(compose_affine(a, u), affine_to_displacement(a @ b, shape))


def test_affine_maps_keep_their_digits_under_mixed_precision():
    points = 200 * torch.rand(1, 3, 50, generator=torch.Generator().manual_seed(0))
    m = matrix(3, 1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = apply_affine(m, points)
    assert torch.equal(found, apply_affine(m, points))
    exact = apply_affine(m.double(), points.double()).float()  # a type that is never cast
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=0)


def test_composition_with_zero_and_of_shifts():
    u = smooth_field((10, 12), 1.0)
    zero = torch.zeros_like(u)
    assert torch.equal(compose(u, zero), u)
    torch.testing.assert_close(compose(zero, u), u)
    shift = torch.full_like(u, 2.0)
    torch.testing.assert_close(compose(shift, shift), torch.full_like(u, 4.0))


def test_composition_is_warping_twice():
    shape = (24, 26)
    outer, inside = smooth_field(shape, 2.0, 1), smooth_field(shape, 2.0, 2)
    y, x = identity(shape, dtype=torch.float64)
    image = (0.1 * y + 0.2 * x)[None, None]  # linear, so interpolation is exact
    once = warp(image, compose(outer, inside))
    torch.testing.assert_close(
        inner(once), inner(warp(warp(image, outer), inside)), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("shape", [(32, 30), (20, 22, 24)])
def test_integration_has_an_inverse_and_no_folds(shape):
    v = smooth_field(shape, 3.0)
    forward, backward = integrate(v), integrate(-v)
    assert inner(compose(forward, backward)).abs().max() < 0.05
    assert jacobian_determinant(forward).min() > 0


def test_integration_of_a_constant_is_the_constant():
    v = torch.full((1, 3, 6, 7, 8), 1.5)
    torch.testing.assert_close(integrate(v), v)
    assert torch.equal(integrate(v, 0), v)
    with pytest.raises(ValueError, match="negative"):
        integrate(v, -1)


def test_integration_matches_the_matrix_exponential():
    shape = (33, 33)
    generator = torch.zeros(3, 3, dtype=torch.float64)
    generator[0, 1], generator[1, 0] = -0.3, 0.3
    centre = torch.tensor(16.0, dtype=torch.float64)
    generator[:2, 2] = -generator[:2, :2] @ torch.stack([centre, centre])
    places = identity(shape, dtype=torch.float64)
    flat = torch.cat([places.flatten(1), torch.ones(1, places[0].numel(), dtype=torch.float64)])
    v = (generator @ flat)[:2].reshape(1, 2, *shape)
    expected = affine_to_displacement(torch.linalg.matrix_exp(generator)[None], shape)
    torch.testing.assert_close(inner(integrate(v, 10), 8), inner(expected, 8), atol=2e-3, rtol=0)


@settings(max_examples=15, deadline=None)
@given(ndim=st.integers(2, 3), seed=st.integers(0, 99), size=st.floats(0.0, 2.5))
def test_inverse_undoes_the_displacement(ndim, seed, size):
    u = smooth_field((16, 14, 12)[:ndim], size, seed, torch.float32)
    v, residual = invert(u)
    assert v.shape == u.shape
    measured = compose(u, v).norm(dim=1).max()
    assert abs(float(measured) - residual) < 1e-4
    if jacobian_determinant(u).min() > 0.2:
        assert residual <= 1e-3


def test_inverse_of_a_shift_and_of_a_strong_diffeomorphism():
    shift = torch.full((2, 2, 8, 9), 1.25)
    v, residual = invert(shift)
    torch.testing.assert_close(v, -shift)
    assert residual < 1e-3
    u = integrate(
        smooth_field((40, 40), 9.0, 3)
    )  # gradient above one: the plain iteration diverges
    assert invert(u)[1] < 1e-3


def test_an_inverse_that_is_nearly_known_is_made_exact():
    u = integrate(smooth_field((40, 40), 9.0, 3))
    v, _ = invert(u)
    exact, residual = invert(u, iterations=0, start=v)
    torch.testing.assert_close(exact, v)  # a start is where it begins
    assert residual < 1e-3 < invert(u, iterations=0)[1]
    rough = v + 0.05 * smooth_field((40, 40), 1.0, 4)
    better, residual = invert(u, iterations=6, start=rough)
    assert residual < 0.1 * invert(u, iterations=6)[1]
    torch.testing.assert_close(better, v, atol=0.01, rtol=0)


def test_an_inverse_that_does_not_exist_is_reported_and_finite():
    u = torch.randn(1, 2, 20, 20, generator=torch.Generator().manual_seed(0)) * 5
    v, residual = invert(u)
    assert torch.isfinite(v).all()
    assert residual > 0.1


@settings(max_examples=20, deadline=None)
@given(
    old=st.lists(st.integers(2, 9), min_size=2, max_size=3),
    data=st.data(),
    seed=st.integers(0, 99),
)
def test_resizing_keeps_affine_motion(old, data, seed):
    """A linear motion is the same motion on every grid over the same corners."""
    new = [data.draw(st.integers(2, 12)) for _ in old]
    n = len(old)
    ratio = [(b - 1) / (a - 1) for a, b in zip(old, new, strict=True)]
    scale = torch.diag(torch.tensor([*ratio, 1.0], dtype=torch.float64))
    m = matrix(n, seed)
    there = affine_to_displacement(scale @ m @ scale.inverse(), tuple(new))
    torch.testing.assert_close(resize(affine_to_displacement(m, tuple(old)), tuple(new)), there)


def test_resize_places_an_impulse_on_the_corner_aligned_voxel():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 1, 3] = 1
    out = resize_image(image, (9, 17))
    assert out[0, 0, 2, 12] == 1
    back = resize_image(out, (5, 5))
    torch.testing.assert_close(back, image)


def test_resize_of_labels_keeps_values_and_type():
    labels = torch.randint(0, 5, (1, 1, 6, 7, 8))
    out = resize_image(labels, (9, 3, 8), mode="nearest")
    assert out.dtype == labels.dtype
    assert set(out.unique().tolist()) <= set(labels.unique().tolist())
    assert torch.equal(out[..., 0, 0, :], labels[..., 0, 0, :])


def test_resize_of_single_voxel_axes_is_finite():
    u = torch.ones(1, 3, 1, 6, 6)
    assert torch.equal(resize(u, (4, 6, 6))[:, 0], torch.ones(1, 4, 6, 6))
    assert resize(torch.ones(1, 2, 6, 6), (1, 6))[:, 0].abs().max() == 0


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=3).map(tuple),
    sigma=st.floats(0, 4),
)
def test_gaussian_is_scipys(shape, sigma):
    x = torch.rand(1, 1, *shape, dtype=torch.float64)
    ours = gaussian(x, sigma)[0, 0].numpy()
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), sigma, mode="nearest") if sigma else x[0, 0]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("border", ["nearest", "reflect"])
@pytest.mark.parametrize(
    ("shape", "sigma"),
    [
        ((71, 97, 66), (1.5, 3.0, 0.4)),
        ((3, 420, 431), (2.0, 0.0, 2.5)),
        ((130, 50, 130), (30.0,) * 3),
    ],
)
def test_a_large_volume_is_filtered_like_any_other(shape, sigma, border):
    """Slab by slab on the CPU, and whole where a gradient is asked for."""
    x = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(5))
    taps = [gaussian_weights(s, min(n - 1, int(4 * s))) if s else (1.0,)
            for s, n in zip(sigma, shape, strict=True)]  # fmt: skip
    found = separable_filter(x, taps, border)
    whole = separable_filter(x.clone().requires_grad_(), taps, border)
    assert whole.requires_grad and found.is_contiguous()
    torch.testing.assert_close(found, whole.detach(), atol=2e-6, rtol=0)


def test_gaussian_keeps_constants_and_takes_one_sigma_an_axis():
    x = torch.full((1, 2, 5, 6, 7), 3.0)
    torch.testing.assert_close(gaussian(x, (0.0, 1.0, 9.0)), x)
    with pytest.raises(ValueError, match="sigma"):
        gaussian(x, (1.0, 2.0))


def test_reflecting_filter_is_pytorchs():
    x = torch.rand(1, 1, 6, 7)
    taps = [0.2, 0.5, 0.3]
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    kernel = torch.outer(torch.tensor(taps), torch.tensor(taps))[None, None]
    expected = torch.nn.functional.conv2d(padded, kernel)
    torch.testing.assert_close(separable_filter(x, [taps, taps], "reflect"), expected)
