"""Inverse-consistency error against ITK's composition and exact inverses."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

from regtool.metrics.inverse_consistency import inverse_consistency
from regtool.spatial.invert import invert


def smooth(shape, size, seed):
    rng = np.random.default_rng(seed)
    return np.stack([gaussian_filter(rng.standard_normal(shape), 4.0) * size for _ in shape])


def test_shifts_by_hand():
    u = np.zeros((2, 10, 12))
    v = u.copy()
    u[0], v[0] = 2.0, -1.0  # one voxel of 3 mm short of the way back
    found = inverse_consistency(u, v, (3.0, 1.0))
    assert found.mean == found.max == pytest.approx(3.0)
    # 2 of 10 rows leave on the way out, 1 of 10 on the way back.
    assert found.left_percent == pytest.approx(15.0)
    assert inverse_consistency(u, -u, (3.0, 1.0)).max == 0.0


def test_a_field_that_leaves_the_image_cannot_be_measured():
    u = np.full((2, 4, 4), 9.0)
    with pytest.raises(ValueError, match="out of the image"):
        inverse_consistency(u, -u, (1.0, 1.0))


@pytest.mark.parametrize("shape", [(24, 26, 22), (40, 44)])
def test_agrees_with_itk(shape):
    """Every voxel goes through both fields as ITK displacement transforms in millimetres."""
    spacing = np.array((3.0, 1.5, 1.2)[-len(shape) :])
    u, v = smooth(shape, 20, 0), smooth(shape, 15, 1)

    def transform(field):
        mm = np.moveaxis(field * spacing.reshape(-1, *[1] * len(shape)), 0, -1)[..., ::-1]
        image = sitk.GetImageFromArray(np.ascontiguousarray(mm), isVector=True)
        image.SetSpacing(spacing[::-1].tolist())
        return sitk.DisplacementFieldTransform(image)

    upper = (np.array(shape) - 1) * spacing
    errors = []
    for first, second in ((transform(u), transform(v)), (transform(v), transform(u))):
        for index in np.ndindex(shape):
            start = (np.array(index) * spacing)[::-1]
            there = np.array(first.TransformPoint(start.tolist()))
            if (there >= 0).all() and (there <= upper[::-1]).all():
                back = np.array(second.TransformPoint(there.tolist()))
                errors.append(np.linalg.norm(back - start))
    found = inverse_consistency(u, v, spacing)
    assert found.mean == pytest.approx(np.mean(errors), rel=1e-5)
    assert found.max == pytest.approx(np.max(errors), rel=1e-5)


def test_a_true_inverse_is_consistent():
    u = smooth((32, 30), 15, 2)
    u *= np.outer(np.hanning(32), np.hanning(30))
    v = invert(torch.from_numpy(u)[None])[0][0].numpy()
    found = inverse_consistency(u, v, (1.0, 1.0))
    assert found.mean < 0.02 < np.abs(u).max()
    assert inverse_consistency(u, -u, (1.0, 1.0)).mean > 2 * found.mean


def test_refusals():
    with pytest.raises(ValueError, match="one shape"):
        inverse_consistency(np.zeros((2, 3, 3)), np.zeros((2, 3, 4)), (1, 1))
    with pytest.raises(ValueError, match="one shape"):
        inverse_consistency(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), (1, 1, 1))
