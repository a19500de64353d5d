"""The warp: exact identity, integer shifts, agreement with SimpleITK, labels."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import identity, sample, warp, warp_labels

SHAPES = [(7, 9), (1, 5), (5, 6, 7), (1, 8, 9), (6, 1, 3)]
shapes = st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_zero_displacement_is_the_image_bit_for_bit(shape, padding):
    image = torch.randn(2, 3, *shape) * 1e3
    zero = torch.zeros(2, len(shape), *shape)
    assert torch.equal(warp(image, zero, padding=padding), image)
    assert torch.equal(warp(image, zero, mode="nearest", padding=padding), image)


def test_zero_displacement_keeps_its_gradient():
    image = torch.rand(1, 1, 6, 7, 8)
    u = torch.zeros(1, 3, 6, 7, 8, requires_grad=True)
    out = warp(image, u)
    assert torch.equal(out, image)
    out.square().sum().backward()
    assert u.grad is not None
    assert u.grad.abs().max() > 0


@settings(max_examples=30, deadline=None)
@given(shape=shapes, data=st.data())
def test_integer_shift_is_slicing(shape, data):
    shift = [data.draw(st.integers(-n + 1, n - 1)) for n in shape]
    image = torch.rand(1, 1, *shape, dtype=torch.float64)
    u = torch.tensor(shift, dtype=torch.float64).reshape(1, -1, *[1] * len(shape))
    out = warp(image, u.expand(1, len(shape), *shape))
    at = [(torch.arange(n) + s).clamp(0, n - 1) for n, s in zip(shape, shift, strict=True)]
    expected = image[0, 0][torch.meshgrid(*at, indexing="ij")]
    torch.testing.assert_close(out[0, 0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(12, 15), (8, 9, 10)])
def test_agrees_with_simpleitk(shape):
    torch.manual_seed(0)
    image = torch.rand(1, 1, *shape, dtype=torch.float64)
    u = gaussian(torch.randn(1, len(shape), *shape, dtype=torch.float64), 2.0) * 3
    places = identity(shape, dtype=torch.float64) + u[0]
    ends = torch.tensor(shape).reshape(-1, *[1] * len(shape)) - 1
    inside = ((places >= 0) & (places <= ends)).all(0).numpy()

    field = np.ascontiguousarray(u[0].flip(0).movedim(0, -1).numpy())
    transform = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(field, isVector=True))
    moving = sitk.GetImageFromArray(image[0, 0].numpy())
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, transform, sitk.sitkLinear, 0.0))
    ours = warp(image, u)[0, 0].numpy()
    assert inside.mean() > 0.5
    np.testing.assert_allclose(ours[inside], expected[inside], atol=1e-6)


def test_zeros_padding_fades_and_border_repeats():
    image = torch.ones(1, 1, 4, 4)
    u = torch.zeros(1, 2, 4, 4)
    u[:, 0] = 10.0
    assert warp(image, u, padding="zeros").abs().max() == 0
    assert warp(image, u).min() == 1


def test_output_grid_may_differ_and_batches_repeat():
    image = torch.rand(1, 2, 5, 6)
    u = torch.zeros(3, 2, 4, 3)
    out = warp(image, u)
    assert out.shape == (3, 2, 4, 3)
    torch.testing.assert_close(out[2], image[0, :, :4, :3])


def test_sample_takes_landmarks():
    image = torch.rand(1, 2, 4, 5, 6)
    points = torch.tensor([[0.0, 3.0, 1.5], [0.0, 4.0, 2.0], [0.0, 5.0, 3.0]])[None]
    values = sample(image, points)
    assert values.shape == (1, 2, 3)
    torch.testing.assert_close(values[..., 0], image[:, :, 0, 0, 0])
    torch.testing.assert_close(values[..., 1], image[:, :, 3, 4, 5])
    torch.testing.assert_close(values[..., 2], (image[:, :, 1, 2, 3] + image[:, :, 2, 2, 3]) / 2)


def test_half_precision_is_computed_in_float32():
    image, u = torch.rand(1, 1, 5, 6).half(), torch.zeros(1, 2, 5, 6).half()
    assert warp(image, u).dtype == torch.float32


@settings(max_examples=25, deadline=None)
@given(
    shape=shapes,
    method=st.sampled_from(["nearest", "label"]),
    padding=st.sampled_from(["border", "zeros"]),
    seed=st.integers(0, 99),
)
def test_labels_are_never_invented(shape, method, padding, seed):
    g = torch.Generator().manual_seed(seed)
    values = torch.tensor([7, -3, 2**31 + 1])
    labels = values[torch.randint(0, 3, (1, 1, *shape), generator=g)]
    u = torch.randn(1, len(shape), *shape, generator=g) * 2
    out = warp_labels(labels, u, method, padding=padding)
    assert out.dtype == torch.int64
    allowed = {*values.tolist(), 0} if padding == "zeros" else set(values.tolist())
    assert set(out.unique().tolist()) <= allowed
    assert torch.equal(warp_labels(labels, torch.zeros_like(u), method), labels)


def test_ties_go_to_the_lower_label():
    labels = torch.tensor([[[[5, 2]]]])
    u = torch.zeros(1, 2, 1, 2)
    u[:, 1] = torch.tensor([0.5, -0.5])
    assert warp_labels(labels, u, "label").flatten().tolist() == [2, 2]


@pytest.mark.parametrize(
    ("image", "u"),
    [((1, 1, 4, 4), (1, 3, 4, 4)), ((1, 1, 4), (1, 1, 4)), ((2, 1, 4, 4), (3, 2, 4, 4))],
)
def test_wrong_shapes_are_refused(image, u):
    with pytest.raises(ValueError, match=r"\d"):
        warp(torch.zeros(image), torch.zeros(u))


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="interpolation"):
        warp(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), mode="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="label"):
        warp_labels(torch.zeros(1, 1, 4, 4).long(), torch.zeros(1, 2, 4, 4), "mean")  # type: ignore[arg-type]
