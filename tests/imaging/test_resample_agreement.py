"""Resampling against SimpleITK and ANTs, on every kind of grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from imaging_cases import grids, numbers, one_slice_grid, smooth_field
from test_transform_files import some_affine

from regtool.errors import GeometryError
from regtool.imaging import resample as module
from regtool.imaging.image_write import write_image
from regtool.imaging.itk import sitk_image
from regtool.imaging.resample import resample
from regtool.imaging.transforms import Transform, to_sitk_transform, write_affine, write_field
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid

NAMES = ["identity", "flipped", "oblique", "permuted", "anisotropic"]
ITK = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor,
       "bspline": sitk.sitkBSpline, "label": sitk.sitkLabelLinear}  # fmt: skip


def by_itk(volume: Volume, grid: Grid, chain: list[Transform], how: str, default: float):
    image = sitk.Resample(
        sitk_image(volume.array, volume.grid), grid.size, to_sitk_transform(chain, grid.ndim),
        ITK[how], grid.origin, grid.spacing, grid.direction, default,
    )  # fmt: skip
    return sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("how", ["linear", "nearest", "label", "bspline"])
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("fixed", NAMES)
@pytest.mark.parametrize("moving", NAMES)
def test_affine_and_field_agree_with_itk(fixed: str, moving: str, ndim: int, how: str) -> None:
    grid, other = grids(ndim)[fixed], grids(ndim)[moving]
    dtype = "uint8" if how == "label" else "float32"
    values = numbers(other.shape, dtype) % (5 if how == "label" else 100)
    volume = Volume(values.astype(dtype), other)
    chain: list[Transform] = [(smooth_field(grid), grid), some_affine(ndim)]
    ours = resample(volume, grid, chain, how, default=7)
    theirs = by_itk(volume, grid, chain, how, 7)
    assert ours.dtype == values.dtype
    apart = np.abs(ours.astype(float) - theirs) > 0.1
    assert apart.mean() < 2e-3  # a coordinate on the very border may fall to either side
    assert (ours != 7).mean() > 0.3


def test_field_of_another_grid_is_zero_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLAB_VOXELS", 500)
    grid, other = grids(3)["oblique"], grids(3)["flipped"]
    small = Grid((5, 6, 4), (2.0, 2.0, 2.0), other.direction, (4.0, 5.0, -4.0))
    volume = Volume(numbers(other.shape), other)
    chain: list[Transform] = [some_affine(3), (smooth_field(small), small)]
    assert np.allclose(resample(volume, grid, chain), by_itk(volume, grid, chain, "linear", 0.0),
                       atol=0.1)  # fmt: skip


@pytest.mark.parametrize("how", ["linear", "nearest", "label"])
def test_identity_is_exact(how: str) -> None:
    grid = grids(3)["oblique"]
    volume = Volume(numbers(grid.shape, "int16"), grid)
    chain: list[Transform] = [(np.zeros((*grid.shape, 3), np.float32), grid), np.eye(4)]
    assert np.allclose(resample(volume, grid, [], how), volume.array, rtol=0, atol=1e-4)
    assert np.allclose(resample(volume, grid, chain, how), volume.array, rtol=0, atol=1e-4)


def test_edge_value_for_half_a_voxel_then_the_default() -> None:
    line = Grid((4, 4), (1.0, 1.0), (1, 0, 0, 1), (0.0, 0.0))
    volume = Volume(np.full((4, 4), 5.0, np.float32), line)
    fine = Grid((24, 1), (0.25, 1.0), (1, 0, 0, 1), (-1.1, 1.0))
    values = resample(volume, fine, default=-1)[0]
    x = -1.1 + 0.25 * np.arange(24)
    assert np.array_equal(values, np.where((x >= -0.5) & (x < 3.5), 5, -1).astype(np.float32))


def test_label_ties_go_to_the_lower_label_and_the_set_is_kept() -> None:
    line = Grid((2, 1), (1.0, 1.0), (1, 0, 0, 1), (0.0, 0.0))
    between = Grid((1, 1), (1.0, 1.0), (1, 0, 0, 1), (0.5, 0.0))
    for labels in ([3, 8], [8, 3]):
        volume = Volume(np.array([labels], np.uint16), line)
        assert resample(volume, between, interpolation="label")[0, 0] == 3
        assert resample(volume, between, interpolation="nearest")[0, 0] == labels[1]


def test_series_and_colour_go_frame_by_frame() -> None:
    grid, other = grids(3)["flipped"], grids(3)["oblique"]
    frames = np.stack([numbers(other.shape, seed=s) for s in range(3)])
    series = resample(Volume(frames, other, "series"), grid, [some_affine(3)])
    for one, frame in zip(series, frames, strict=True):
        assert np.allclose(one, resample(Volume(frame, other), grid, [some_affine(3)]))
    colour = np.moveaxis(frames, 0, -1).astype(np.uint8)
    for how in ("linear", "nearest", "bspline"):
        result = resample(Volume(colour, other, "rgb"), grid, [some_affine(3)], how)
        assert (result.dtype, result.shape) == (np.uint8, (*grid.shape, 3))


def test_dimensions_must_agree() -> None:
    grid = grids(3)["identity"]
    with pytest.raises(GeometryError, match="2-D"):
        resample(Volume(numbers(grid.shape), grid), grids(2)["identity"])


@pytest.mark.parametrize("how", ["linear", "nearest", "bspline"])
def test_one_slice_agrees_with_itk(how: str) -> None:
    grid, other = one_slice_grid(), one_slice_grid(angle=-0.4, shift=1.0)
    volume = Volume(numbers(other.shape), other)
    affine = np.eye(4)
    affine[:3, 3] = 1.5, -2.0, 0.7
    chain: list[Transform] = [(smooth_field(grid), grid), affine]
    ours = resample(volume, grid, chain, how)
    assert (ours != 0).mean() > 0.3
    if how == "bspline":  # ITK needs four slices: the same slice repeated is the same image
        thick = Grid((*other.size[:2], 9), other.spacing, other.direction,
                     tuple(np.asarray(other.origin) - [0, 0, 32.0]))  # fmt: skip
        volume = Volume(np.repeat(volume.array, 9, axis=0), thick)
    assert np.abs(ours - by_itk(volume, grid, chain, how, 0.0)).max() < 0.1


def test_files_agree_with_ants(tmp_path: Path) -> None:
    """One-slice, 2-D and 3-D: the written files, applied by ANTs."""
    ants = pytest.importorskip("ants")
    for case in ("one-slice", "2-D", "3-D"):
        if case == "one-slice":
            grid, other = one_slice_grid(), one_slice_grid(angle=-0.4, shift=1.0)
        else:
            grid, other = grids(int(case[0]))["oblique"], grids(int(case[0]))["anisotropic"]
        affine = some_affine(grid.ndim)
        if case == "one-slice":
            affine[2], affine[:, 2] = (0, 0, 1, 0.7), (0, 0, 1, 0)
        field = smooth_field(grid)
        volume = Volume(numbers(other.shape), other)
        write_image(tmp_path / "fixed.nii.gz", numbers(grid.shape), grid)
        write_image(tmp_path / "moving.nii.gz", volume.array, other)
        write_field(tmp_path / "1Warp.nii.gz", field, grid)
        write_affine(tmp_path / "0GenericAffine.mat", affine)
        theirs = ants.apply_transforms(
            ants.image_read(str(tmp_path / "fixed.nii.gz")),
            ants.image_read(str(tmp_path / "moving.nii.gz")),
            [str(tmp_path / "1Warp.nii.gz"), str(tmp_path / "0GenericAffine.mat")],
        ).numpy()
        ours = resample(volume, grid, [(field, grid), affine])
        assert (ours != 0).mean() > 0.3
        assert (np.abs(ours - theirs.T) > 0.1).mean() < 2e-3, case
