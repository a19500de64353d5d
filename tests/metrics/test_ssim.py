"""Structural similarity and normalised error against MONAI, SciPy and hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from regtool.metrics.similarity import mse, nmse, psnr
from regtool.metrics.ssim import ssim


def images(shape, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.random(shape)
    return a, np.clip(a + 0.2 * rng.standard_normal(shape), 0, 1)


@pytest.mark.parametrize("shape", [(24, 30), (14, 20, 18), (6, 32, 28), (9, 20, 20), (11, 12, 13)])
def test_agrees_with_monai(shape):
    monai = pytest.importorskip("monai.metrics")
    a, b = images(shape)
    window = [min(11, n if n % 2 else n - 1) for n in shape]
    theirs = monai.SSIMMetric(len(shape), data_range=1.0, win_size=window, kernel_sigma=1.5)
    expected = theirs(*(torch.from_numpy(x)[None, None].float() for x in (b, a)))
    assert ssim(a, b, data_range=1.0) == pytest.approx(float(expected), abs=1e-5)


def test_psnr_and_mse_agree_with_monai():
    monai = pytest.importorskip("monai.metrics")
    a, b = images((12, 14, 16))
    tensors = [torch.from_numpy(x)[None, None] for x in (b, a)]
    assert psnr(a, b, data_range=1.0) == pytest.approx(
        float(monai.PSNRMetric(1.0)(*tensors)), abs=1e-5
    )
    assert mse(a, b) == pytest.approx(float(monai.MSEMetric()(*tensors)), abs=1e-5)


def test_one_window_by_the_formula():
    """An image of the size of the window has one value, computed here from its definition."""
    a, b = images((11, 11), 3)
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    span = np.ptp(a)
    ma, mb = (weights * a).sum(), (weights * b).sum()
    va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
    cov = (weights * (a - ma) * (b - mb)).sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert ssim(a, b) == pytest.approx(expected, abs=1e-12)


def test_masks_choose_whole_windows():
    a, b = images((20, 22), 5)
    mask = np.zeros(a.shape)
    mask[10, 8] = mask[0, 0] = 1  # the second has no whole window
    cut = (slice(5, 16), slice(3, 14))
    assert ssim(a, b, mask) == pytest.approx(ssim(a[cut], b[cut], data_range=np.ptp(a)))
    with pytest.raises(ValueError, match="mask is empty"):
        ssim(a, b, np.eye(20, 22) * 0)
    with pytest.raises(ValueError, match="shape"):
        ssim(a, b, mask[1:])


def test_large_offsets_keep_their_digits():
    a, b = images((30, 30), 6)
    near = ssim(a, b, data_range=1.0)
    assert ssim(a * 4000, b * 4000, data_range=4000.0) == pytest.approx(near, abs=1e-9)
    shifted = ssim(a + 1e6, b + 1e6, data_range=1.0)
    box = np.outer(*[np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))] * 2)
    box /= box.sum()
    ma, mb = correlate(a, box), correlate(b, box)
    cov = correlate(a * b, box) - ma * mb
    var = correlate(a * a, box) - ma**2 + correlate(b * b, box) - mb**2
    structure = ((2 * cov + 9e-4) / (var + 9e-4))[5:-5, 5:-5].mean()
    assert shifted == pytest.approx(structure, abs=1e-6)  # the luminance term is 1 there


def test_perfect_and_undefined():
    a, _ = images((12, 12))
    assert ssim(a, a) == pytest.approx(1.0)
    assert math.isnan(ssim(np.ones((12, 12)), a))
    with pytest.raises(ValueError, match="odd"):
        ssim(a, a, window=4)
    with pytest.raises(ValueError, match="shapes"):
        ssim(a, a[1:])


def test_normalised_error():
    a, b = np.array([[3.0, 4.0]]), np.array([[3.0, 3.0]])
    assert nmse(a, b) == pytest.approx(1 / 25)
    assert nmse(10 * a, 10 * b) == pytest.approx(1 / 25)
    assert nmse(a, b, np.array([[1, 0]])) == 0.0
    assert nmse(a * 0, a) == math.inf
    assert nmse(a * 0, a * 0) == 0.0
