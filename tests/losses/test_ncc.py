"""Local NCC: the published definition, its gradient, masks, windows, safety in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from regtool.losses import box
from regtool.losses.box import box_sum, box_sums, window_sizes
from regtool.losses.ncc import local_ncc, local_ncc_gradient, local_ncc_map


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference(f, m, window=9, eps=1e-5):
    """VoxelMorph's formula with dense convolutions."""
    ndim = f.dim() - 2
    kernel = torch.ones(1, 1, *[window] * ndim, dtype=f.dtype)
    conv = F.conv3d if ndim == 3 else F.conv2d
    n = window**ndim

    def total(x):
        return conv(x, kernel, padding=window // 2)

    sf, sm = total(f), total(m)
    cross = total(f * m) - sf * sm / n
    vf, vm = total(f * f) - sf * sf / n, total(m * m) - sm * sm / n
    return -(cross.square() / (vf * vm + eps)).mean()


@pytest.mark.parametrize("shape", [(20, 24), (12, 14, 16)])
@pytest.mark.parametrize("window", [3, 9])
def test_value_and_gradient_of_the_published_definition(shape, window):
    f = rand(2, 1, *shape).requires_grad_()
    m = rand(2, 1, *shape, seed=1).requires_grad_()
    ours, theirs = local_ncc(f, m, window), reference(f, m, window)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(-local_ncc_map(f, m, window).mean(), theirs)
    got, want = torch.autograd.grad(ours, (f, m)), torch.autograd.grad(theirs, (f, m))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("shape", [(2, 2, 5, 6), (1, 1, 3, 4, 5)])
def test_gradcheck(squared, masked, shape):
    f, m = rand(*shape).requires_grad_(), rand(*shape, seed=1).requires_grad_()
    mask = (rand(1, 1, *shape[2:], seed=2) > 0.4).double() if masked else None
    window = (3, 9, 5)[: len(shape) - 2]

    def loss(a, b):
        return local_ncc(a, b, window, mask, squared)

    assert torch.autograd.gradcheck(loss, (f, m))
    only_m = torch.autograd.grad(loss(f.detach(), m), m)[0]
    both = torch.autograd.grad(loss(f, m), (f, m))
    torch.testing.assert_close(only_m, both[1])
    torch.testing.assert_close(torch.autograd.grad(loss(f, m.detach()), f)[0], both[0])


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple),
    data=st.data(),
    seed=st.integers(0, 99),
)
def test_fast_loss_equals_the_map_for_any_window_and_mask(shape, data, seed):
    window = [data.draw(st.sampled_from([1, 3, 5, 9, 15])) for _ in shape]
    f, m = rand(1, 2, *shape, seed=seed), rand(1, 2, *shape, seed=seed + 1)
    mask = (rand(1, 1, *shape, seed=seed + 2) > 0.3).double()
    mask.flatten()[0] = 1
    for squared in (True, False):
        cc = local_ncc_map(f, m, window, mask, squared)
        expected = -(cc * mask).sum() / (2 * mask.sum())
        torch.testing.assert_close(local_ncc(f, m, window, mask, squared), expected)
        plain = -local_ncc_map(f, m, window, None, squared).mean()
        torch.testing.assert_close(local_ncc(f, m, window, None, squared), plain)
        assert cc.abs().max() <= 1 + 1e-9


def test_large_volumes_go_block_by_block_to_the_same_result(monkeypatch):
    f = rand(2, 2, 13, 14, 15).requires_grad_()
    m = rand(2, 2, 13, 14, 15, seed=1).requires_grad_()
    whole = local_ncc(f, m)
    grads = torch.autograd.grad(whole, (f, m))
    monkeypatch.setattr(box, "_BLOCK", 500 // torch.get_num_threads())
    torch.testing.assert_close(local_ncc(f, m), whole)
    torch.testing.assert_close(torch.autograd.grad(local_ncc(f, m), (f, m)), grads)
    for pair, expected in (((f, m), f * m), ((f, None), f)):
        with torch.no_grad():
            torch.testing.assert_close(box_sums([pair], (3, 9, 5))[0], box_sum(expected, (3, 9, 5)))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 8), min_size=2, max_size=3).map(tuple),
    data=st.data(),
)
def test_box_sum_counts_neighbours(shape, data):
    sizes = [data.draw(st.sampled_from([1, 3, 5, 7, 9, 13])) for _ in shape]
    x = rand(1, 1, *shape)
    total = box_sum(x, sizes)
    at = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    near = tuple(slice(max(i - s // 2, 0), i + s // 2 + 1) for i, s in zip(at, sizes, strict=True))
    torch.testing.assert_close(total[(0, 0, *at)], x[(0, 0, *near)].sum())


def test_outside_the_mask_nothing_counts():
    f, m = rand(1, 1, 16, 16), rand(1, 1, 16, 16, seed=1).requires_grad_()
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    loss = local_ncc(f, m, 5, mask)
    grad = torch.autograd.grad(loss, m)[0]
    assert grad[..., :4, :].abs().max() == 0
    assert grad[..., 4:12, 4:12].abs().max() > 0
    other = torch.where(mask > 0, f, 9.0)
    torch.testing.assert_close(local_ncc(other, m, 5, mask), loss)
    assert local_ncc(f, m, 5, torch.zeros_like(mask)) == 0


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(24, 24), (12, 20, 20)])
def test_constant_images_are_finite_and_calm(level, shape):
    flat = torch.full((1, 1, *shape), level)
    noisy = rand(1, 1, *shape, dtype=torch.float32).requires_grad_()
    mask = torch.ones(1, 1, *shape)
    for w in (None, mask):
        loss = local_ncc(flat, noisy, mask=w)
        grad = torch.autograd.grad(loss, noisy)[0]
        assert torch.isfinite(loss)
        assert torch.isfinite(grad).all()
        assert grad.abs().max() < 1
    assert local_ncc(flat, noisy, mask=mask).abs() < 1e-3
    assert local_ncc(flat, flat, mask=mask).abs() < 1e-3


def test_float32_agrees_with_float64_on_bright_images():
    f, m = 0.9 + 0.1 * rand(1, 1, 16, 20, 20), 0.9 + 0.1 * rand(1, 1, 16, 20, 20, seed=1)
    assert abs(float(local_ncc(f.float(), m.float())) - float(local_ncc(f, m))) < 1e-4


def test_an_image_with_itself_and_its_negative():
    f = rand(1, 1, 24, 24, dtype=torch.float32)
    ones = torch.ones_like(f)
    assert local_ncc(f, f) < -0.99
    assert local_ncc(f, 1 - f, mask=ones) < -0.99
    assert local_ncc(f, 1 - f, mask=ones, squared=False) > 0.99


def test_thin_axes_take_a_shorter_window():
    assert window_sizes(9, (1, 3, 20)) == (1, 5, 9)
    f, m = rand(1, 1, 1, 12, 13), rand(1, 1, 1, 12, 13, seed=1)
    torch.testing.assert_close(local_ncc(f, m), local_ncc(f[:, :, 0], m[:, :, 0]))


def test_half_precision_and_second_derivatives():
    f = rand(1, 1, 8, 8, dtype=torch.float32)
    half = f.half().requires_grad_()
    loss = local_ncc(f, half)
    assert loss.dtype == torch.float32
    loss.backward()
    assert half.grad is not None
    m = rand(1, 1, 8, 8, seed=1).requires_grad_()
    grad = torch.autograd.grad(local_ncc(f.double(), m), m, create_graph=True)[0]
    with pytest.raises(RuntimeError):
        grad.sum().backward()
    small = rand(1, 1, 3, 3, seed=2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: local_ncc_map(x, x**2, 3).sum(), small)


@pytest.mark.parametrize("window", [2, 0, (3, 3, 3)])
def test_wrong_windows_are_refused(window):
    with pytest.raises(ValueError, match="window"):
        local_ncc(torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5), window)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        local_ncc(torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 6))


@pytest.mark.parametrize("masked", [False, True])
def test_the_neutral_form_is_stationary_for_equal_images_and_has_the_right_gradient(masked):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 1, 9, 11, generator=generator, dtype=torch.float64)
    other = torch.rand(1, 1, 9, 11, generator=generator, dtype=torch.float64)
    mask = (torch.rand(1, 1, 9, 11, generator=generator) > 0.3).double() if masked else None
    weak = (0.02 * image).requires_grad_(True)
    local_ncc(weak.detach(), weak, 5, mask, eps=1e-3, neutral=True).backward()
    assert weak.grad.abs().max() < 1e-10
    published = weak.detach().clone().requires_grad_(True)
    local_ncc(published.detach(), published, 5, mask, eps=1e-3).backward()
    assert published.grad.abs().max() > 1e-3
    image.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda m: local_ncc(other, m, 5, mask, eps=1e-3, neutral=True), image
    )
    value = local_ncc(other, image, 5, mask, eps=1e-3, neutral=True)
    per_voxel = local_ncc_map(other, image, 5, mask, eps=1e-3, neutral=True)
    mean = per_voxel.mean() if mask is None else (per_voxel * mask).sum() / mask.sum()
    assert torch.allclose(value, -mean)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("neutral", [True, False])
def test_the_gradient_without_autograd_is_autograds(squared, neutral):
    """``neutral`` is for squared correlation only, here too; weak texture shows it."""
    f, m = 1e-3 * rand(2, 1, 9, 8), 1e-3 * rand(2, 1, 9, 8, seed=1)
    values, gradient = local_ncc_gradient(f, m, 5, squared=squared, neutral=neutral)
    m.requires_grad_()
    loss = local_ncc(f, m, 5, squared=squared, neutral=neutral)
    torch.testing.assert_close(values.mean(), loss.detach())
    torch.testing.assert_close(gradient, 2 * torch.autograd.grad(loss, m)[0])
