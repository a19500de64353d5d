"""Hausdorff distance and surface Dice against MONAI, SimpleITK and hand-made cases."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

from regtool.metrics.dice import dice
from regtool.metrics.surface import group_surfaces, hd95, surface_dice


def label_maps(shape, seed, labels=3):
    """Two smooth random label maps with values 0 to ``labels`` that overlap in part."""
    rng = np.random.default_rng(seed)
    noise = [gaussian_filter(rng.standard_normal(shape), 2.0) for _ in range(2)]
    mixed = (noise[0], 0.8 * noise[0] + 0.6 * noise[1])
    return [np.digitize(x, np.quantile(x, [0.55, 0.7, 0.85])[:labels]) for x in mixed]


def distances(fixed, moving, spacing):
    """Surface distances of all that is not 0."""
    masks = [np.asarray(x != 0, np.uint8) for x in (fixed, moving)]
    return group_surfaces(*masks, spacing, {1: (1,)})[1]


def one_hot(labels, count):
    return torch.from_numpy(np.stack([labels == v for v in range(count + 1)]))[None].float()


CASES = [
    ((24, 30, 20), (1.0, 1.0, 1.0)),
    ((8, 40, 36), (9.0, 1.5, 1.4)),
    ((48, 52), (1.37, 2.2)),
]


@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_monai(shape, spacing, seed):
    monai = pytest.importorskip("monai.metrics")
    fixed, moving = label_maps(shape, seed)
    a, b = one_hot(fixed, 3), one_hot(moving, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = monai.compute_hausdorff_distance(b, a, percentile=95, spacing=spacing)[0]
        largest = monai.compute_hausdorff_distance(b, a, spacing=spacing)[0]
        mean = monai.compute_average_surface_distance(b, a, symmetric=True, spacing=spacing)[0]
        within = monai.compute_surface_dice(b, a, [2.0] * 3, spacing=spacing)[0]
    ours = hd95(fixed, moving, spacing)
    assert list(ours) == [1, 2, 3]
    np.testing.assert_allclose(list(ours.values()), theirs, atol=1e-5)
    found = group_surfaces(fixed, moving, spacing, {v: (v,) for v in (1, 2, 3)})
    np.testing.assert_allclose([s.hausdorff(100) for s in found.values()], largest, atol=1e-5)
    np.testing.assert_allclose([s.mean() for s in found.values()], mean, atol=1e-5)
    np.testing.assert_allclose(
        list(surface_dice(fixed, moving, spacing, 2.0).values()), within, atol=1e-5
    )


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_largest_distance_and_overlap_agree_with_itk(shape, spacing):
    fixed, moving = label_maps(shape, 2)
    images = []
    for labels in (fixed, moving):
        images.append(sitk.GetImageFromArray(labels.astype(np.uint8)))
        images[-1].SetSpacing(spacing[::-1])
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    for label, score in dice(fixed, moving).items():
        assert score == pytest.approx(overlap.GetDiceCoefficient(label), abs=1e-9)
        pad = [1] * len(shape)
        outlines = [
            sitk.BinaryContour(sitk.ConstantPad(image == label, pad, pad), fullyConnected=False)
            for image in images
        ]
        hausdorff = sitk.HausdorffDistanceImageFilter()
        hausdorff.Execute(*outlines)
        found = distances(fixed == label, moving == label, spacing)
        assert found.hausdorff(100) == pytest.approx(hausdorff.GetHausdorffDistance(), abs=1e-4)


def test_cubes_by_hand():
    """Two cubes of 4 voxels a side, one shifted by 2 voxels of 3 mm."""
    a = np.zeros((12, 12, 12), int)
    b = a.copy()
    a[2:6, 2:6, 2:6] = b[4:8, 2:6, 2:6] = 5
    spacing = (3.0, 1.0, 1.0)
    found = distances(a, b, spacing)
    assert len(found.from_fixed) == len(found.from_moving) == 4**3 - 2**3
    assert found.hausdorff(100) == 6.0
    assert hd95(a, b, spacing) == {5: 6.0}
    # Of the 56 surface voxels, 28 lie in the two layers beyond; the layer next to the other cube
    # is 3 mm away. In the shared layers, the middle of the other's end faces is 1 mm or 0 away.
    assert surface_dice(a, b, spacing, 0.0) == {5: pytest.approx(24 / 56)}
    assert surface_dice(a, b, spacing, 1.0) == {5: pytest.approx(28 / 56)}
    assert surface_dice(a, b, spacing, 3.0) == {5: pytest.approx(40 / 56)}
    assert surface_dice(a, b, spacing, 6.0) == {5: 1.0}


def test_empty_structures():
    a = np.zeros((5, 6), int)
    b = a.copy()
    b[2, 2] = 4
    assert hd95(a, b, (1, 1)) == {4: math.inf}
    assert surface_dice(a, b, (1, 1), 100.0) == {4: 0.0}
    assert hd95(b, a, (1, 1)) == {4: math.inf}
    assert hd95(a, a, (1, 1)) == {} == surface_dice(a, a, (1, 1), 1.0)
    assert group_surfaces(a, a, (1, 1), {4: (4,)}) == {}
    assert hd95(a, b, (1, 1), labels=[1, 4]) == {4: math.inf}


def test_borders_of_the_image_are_surface():
    full = np.ones((3, 4), int)
    assert len(distances(full, full, (1, 1)).from_fixed) == 10


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_is_measured_as_in_two_dimensions(axis):
    fixed, moving = label_maps((40, 44), 3)
    flat = hd95(fixed, moving, (1.5, 1.2))
    spacing = [1.5, 1.2]
    spacing.insert(axis, 8.0)
    thin = [np.expand_dims(x, axis) for x in (fixed, moving)]
    assert hd95(*thin, spacing) == pytest.approx(flat)


def test_structure_in_one_slice_of_a_volume_is_all_surface():
    a = np.zeros((5, 6, 6), int)
    a[2, 1:5, 1:5] = 1
    assert len(distances(a, a, (1, 1, 1)).from_fixed) == 16


def test_groups_are_unions():
    fixed, moving = label_maps((20, 24, 22), 4)
    found = group_surfaces(fixed, moving, (1, 2, 3), {"both": (2, 3), "none": (9,)})
    assert list(found) == ["both"]
    whole = distances(fixed >= 2, moving >= 2, (1, 2, 3))
    assert found["both"].hausdorff() == pytest.approx(whole.hausdorff())


def test_refusals():
    a = np.zeros((3, 3), int)
    with pytest.raises(ValueError, match="shapes"):
        hd95(a, a[:2], (1, 1))
    for spacing in ((1,), (1, 0), (1, 1, 1)):
        with pytest.raises(ValueError, match="spacing"):
            distances(a, a, spacing)


def test_wide_and_negative_labels():
    a = np.array([[0, -3, -3, 10**9], [0, -3, -3, 10**9]])
    assert hd95(a, a, (1, 1)) == {-3: 0.0, 10**9: 0.0}
    assert dice(a, a) == {-3: 1.0, 10**9: 1.0}
    assert dice(a.astype(float), a.astype(float)) == {-3: 1.0, 10**9: 1.0}


def test_thin_images_differ_from_monai_as_the_documents_say():
    """Asked in 3-D, MONAI takes every voxel of a single slice as surface; we take its outline."""
    monai = pytest.importorskip("monai.metrics")
    a = np.zeros((1, 20, 20), int)
    b = a.copy()
    a[0, 4:16, 4:16] = b[0, 6:14, 6:14] = 1
    tensors = one_hot(b, 1), one_hot(a, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        within = monai.compute_surface_dice(*tensors, [0.0], spacing=(5.0, 1.0, 1.0))
    assert float(within) == pytest.approx(2 * 64 / (144 + 64))
    assert surface_dice(a, b, (5, 1, 1), 0.0) == {1: 0.0}
    assert hd95(a, b, (5, 1, 1)) == {1: pytest.approx(math.sqrt(8))}
