"""Folds, SD of J and of log J, against SimpleITK, NumPy and fields with known determinants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

from regtool.metrics.determinant import displacement_statistics
from regtool.spatial.jacobian import folds


def rough(shape, size=2.0, seed=0):
    """A displacement in voxels that folds here and there."""
    rng = np.random.default_rng(seed)
    return np.stack([gaussian_filter(rng.standard_normal(shape), 1.5) * size * 6 for _ in shape])


def test_by_hand():
    values = torch.tensor([[-1.0, 0.0], [1.0, math.e]])
    found = folds(values)
    assert (found.count, found.voxels, found.percent) == (2, 4, 50.0)
    assert found.sd == pytest.approx(np.std(values.numpy(), ddof=1))
    assert found.sd_log == pytest.approx(math.sqrt(0.5))  # of 0 and 1
    assert (found.min, found.max) == (-1.0, pytest.approx(math.e))
    assert found.as_dict()["mean"] == pytest.approx(float(values.mean()))
    inside = folds(values, torch.tensor([[0, 0], [1, 1]]))
    assert (inside.count, inside.voxels) == (0, 2)
    assert math.isnan(folds(-torch.ones(3)).sd_log)
    assert folds(torch.tensor([math.nan, 1.0])).count == 1


@pytest.mark.parametrize("shape", [(14, 16, 18), (20, 24)])
def test_central_differences_agree_with_itk(shape):
    """ITK's filter on an unrotated grid, where its missing direction matrix does no harm."""
    u = rough(shape)
    field = np.ascontiguousarray(np.moveaxis(u[::-1], 0, -1))  # components x, y, z
    theirs = sitk.GetArrayFromImage(
        sitk.DisplacementFieldJacobianDeterminant(sitk.GetImageFromArray(field, isVector=True))
    )
    inner = tuple(slice(1, -1) for _ in shape)
    expected = theirs[inner].astype(np.float64)
    found = displacement_statistics(u)
    assert found.count == int((expected <= 0).sum()) > 10
    assert found.percent == pytest.approx(100 * (expected <= 0).mean(), abs=1e-5)
    assert found.sd == pytest.approx(expected.std(ddof=1), rel=1e-5)
    logs = np.log(expected[expected > 0])
    assert found.sd_log == pytest.approx(logs.std(ddof=1), rel=1e-5)


def test_forward_differences_agree_with_numpy():
    u = rough((9, 10, 11))
    gradient = np.stack([np.diff(u, axis=axis)[:, :8, :9, :10] for axis in (1, 2, 3)], 1)
    matrix = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
    expected = np.linalg.det(matrix)
    found = displacement_statistics(u, "forward")
    assert found.voxels == 8 * 9 * 10
    assert found.count == int((expected <= 0).sum())
    assert found.sd == pytest.approx(expected.std(ddof=1), rel=1e-6)


def test_the_two_schemes_differ_on_a_rough_field():
    u = rough((12, 12, 12))
    assert displacement_statistics(u).sd < 0.9 * displacement_statistics(u, "forward").sd


@pytest.mark.parametrize("scheme", ["central", "forward"])
def test_stretch_has_its_factor_everywhere(scheme):
    u = np.zeros((2, 8, 9))
    u[1] = 0.25 * np.arange(9)
    found = displacement_statistics(u, scheme)
    assert (found.min, found.max) == (pytest.approx(1.25), pytest.approx(1.25))
    assert found.sd_log == pytest.approx(0, abs=1e-9)


def test_masks_are_cut_like_the_map():
    u = rough((10, 12))
    mask = np.zeros((10, 12))
    mask[4, 5] = mask[0, 0] = 1
    assert displacement_statistics(u, mask=mask).voxels == 1  # the corner is not counted
    assert displacement_statistics(u, "forward", mask).voxels == 2
    with pytest.raises(ValueError, match="no voxel"):
        displacement_statistics(u, mask=mask * 0)
    with pytest.raises(ValueError, match="mask"):
        displacement_statistics(u, mask=mask[1:])
