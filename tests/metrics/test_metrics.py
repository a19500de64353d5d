"""Overlap, similarity and landmark error against hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from regtool.metrics.dice import dice, dice_groups
from regtool.metrics.similarity import mean_local_ncc, mse, ncc, psnr
from regtool.metrics.tre import distances, tre


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.int16, (2, 3, 4), elements=st.integers(-1, 3)))
def test_dice_is_two_intersections_over_the_sizes(maps):
    a, b = maps
    expected = {
        int(v): 2 * np.sum((a == v) & (b == v)) / (np.sum(a == v) + np.sum(b == v))
        for v in np.union1d(a, b)
        if v != 0
    }
    assert dice(a, b) == pytest.approx(expected)
    assert dice(b, a) == pytest.approx(expected)


def test_dice_leaves_out_what_is_empty_in_both():
    a = np.array([[0, 1], [2, 2]])
    b = np.array([[0, 1], [1, 1]])
    assert dice(a, b, labels=[1, 2, 7]) == {1: 0.5, 2: 0.0}
    assert dice(a * 0, b * 0) == {}
    assert dice(torch.from_numpy(a), torch.from_numpy(b), [0]) == {0: 1.0}
    with pytest.raises(ValueError, match="shapes"):
        dice(a, b[:1])


def test_groups_are_unions():
    a = np.array([0, 2, 3, 1])
    b = np.array([0, 3, 2, 0])
    scores = dice_groups(a, b, {"LV": (2, 3), "heart": (1, 2, 3), "none": (8,)})
    assert scores == {"LV": 1.0, "heart": pytest.approx(0.8)}


def test_correlation_is_numpys_and_ignores_scale():
    rng = np.random.default_rng(0)
    a, b = rng.random((4, 5, 6)), rng.random((4, 5, 6))
    expected = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    assert ncc(a, b) == pytest.approx(expected)
    assert ncc(a, 7 - 3 * b) == pytest.approx(-expected)
    assert ncc(a, np.ones_like(a)) == 0.0


def test_local_correlation_of_an_image_with_itself_is_the_share_that_has_contrast():
    """As docs/metrics.md says: flat windows count 0, also in equal images."""
    textured = np.random.default_rng(0).random((64, 64))
    assert mean_local_ncc(textured, textured) == pytest.approx(1, abs=1e-4)
    half = np.where(np.arange(64) < 32, textured, 0)
    share = (32 + 4) / 64  # a window of 9 reaches 4 voxels into the flat half
    assert mean_local_ncc(half, half) == pytest.approx(share, abs=1e-3)
    assert mean_local_ncc(half, half, np.arange(64)[None] + 0 * half < 32) > 0.999
    everywhere = np.ones_like(textured)  # no window then reaches zeros beyond the image
    assert mean_local_ncc(textured, -textured, everywhere) == pytest.approx(1, abs=1e-4)
    weak = 0.5 + 0.0062 * (-1.0) ** np.add.outer(np.arange(64), np.arange(64))
    weak[0, :2] = 0, 1
    inside = np.zeros((64, 64))
    inside[10:, 10:] = 1
    assert mean_local_ncc(weak, weak, inside) == pytest.approx(0.5, abs=0.06)


def test_masks_and_errors():
    a, b = np.zeros((3, 3)), np.zeros((3, 3))
    b[0, 0], b[2, 2] = 2, 50
    mask = np.zeros((3, 3))
    mask[0] = 1
    assert mse(a, b, mask) == pytest.approx(4 / 3)
    for wrong in (np.zeros((3, 3)), np.ones((2, 3))):
        with pytest.raises(ValueError, match="mask"):
            mse(a, b, wrong)
    with pytest.raises(ValueError, match="shapes"):
        mse(a, b[:2])


def test_psnr():
    a = np.linspace(0, 10, 11).reshape(1, 11)
    assert psnr(a, a) == math.inf
    assert psnr(a, a + 1) == pytest.approx(20.0)
    assert psnr(a, a + 1, data_range=1.0) == pytest.approx(0.0)
    assert psnr(a * 0, a) == -math.inf


def test_local_correlation_is_higher_for_better_matches():
    rng = np.random.default_rng(0)
    a = rng.random((24, 24)).astype(np.float32) * 4000 - 1000
    assert mean_local_ncc(a, a) > 0.99
    assert mean_local_ncc(a, 5 - 2 * a, mask=np.ones((24, 24))) > 0.99
    assert mean_local_ncc(a, rng.random((24, 24))) < 0.8
    assert mean_local_ncc(a, np.zeros((24, 24)), mask=np.ones((24, 24))) < 1e-3


def test_landmark_error():
    fixed = np.array([[0.0, 0, 0], [1, 1, 1], [5, 5, 5]])
    moving = fixed + np.array([[3, 4, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(distances(fixed, moving), [5, 0, 1])
    summary = tre(fixed, moving)
    assert (summary.mean, summary.median, summary.max, summary.count) == (2.0, 1.0, 5.0, 3)
    assert summary.sd == pytest.approx(np.std([5, 0, 1], ddof=1))
    assert summary.as_dict()["p95"] == pytest.approx(np.percentile([5, 0, 1], 95))
    assert tre(fixed[:1], moving[:1]).sd is None


@pytest.mark.parametrize("shape", [(2, 3), (0, 3)])
def test_unusable_landmarks_are_refused(shape):
    with pytest.raises(ValueError, match=r"points|landmarks"):
        tre(np.zeros((0, 3)), np.zeros(shape))
