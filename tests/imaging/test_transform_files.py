"""Fields, affines and composites: the files that others read, and back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from imaging_cases import grids, numbers, one_slice_grid, save, smooth_field

from regtool.errors import GeometryError, InputError
from regtool.imaging.reading import read_image
from regtool.imaging.resample import transform_points
from regtool.imaging.transforms import (
    read_affine,
    read_field,
    read_transforms,
    write_affine,
    write_composite,
    write_field,
)


def some_affine(ndim: int, seed: int = 0) -> np.ndarray:
    matrix = np.eye(ndim + 1)
    draw = np.random.default_rng(seed).normal(size=(ndim, ndim + 1))
    matrix[:-1] += draw * ([0.05] * ndim + [2.0])
    return matrix


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", ["identity", "flipped", "oblique", "permuted", "anisotropic"])
def test_field_round_trip_and_what_others_see(tmp_path: Path, ndim: int, name: str) -> None:
    grid = grids(ndim)[name]
    field = smooth_field(grid)
    path = tmp_path / "1Warp.nii.gz"
    write_field(path, field, grid)
    again, where = read_field(path)
    assert np.array_equal(again, field)
    assert where.same_as(grid)
    image = nib.load(path)
    assert image.shape == ((*grid.size, 1, 3) if ndim == 3 else (*grid.size, 1, 1, 2))
    assert image.header["intent_code"] == 1007
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    assert image.header.get_xyzt_units()[0] == "mm"
    itk = sitk.ReadImage(str(path))
    assert (itk.GetDimension(), itk.GetNumberOfComponentsPerPixel()) == (ndim, ndim)
    assert np.array_equal(sitk.GetArrayFromImage(itk), field)


def test_field_on_one_slice_keeps_three_dimensions(tmp_path: Path) -> None:
    grid = one_slice_grid(shift=12.5)
    field = smooth_field(grid)
    path = tmp_path / "1Warp.nii.gz"
    write_field(path, field, grid)
    assert nib.load(path).header.get_data_shape() == (24, 20, 1, 1, 3)
    again, where = read_field(path)
    assert np.array_equal(again, field)
    assert where.ndim == 3
    assert where.same_as(grid)


def test_a_field_of_another_shape(tmp_path: Path) -> None:
    grid = grids(3)["identity"]
    with pytest.raises(ValueError, match="fit"):
        write_field(tmp_path / "a.nii", smooth_field(grid)[1:], grid)


def test_intent_1006_reads_as_itk_reads_it(tmp_path: Path) -> None:
    grid = grids(3)["oblique"]
    path = tmp_path / "a.nii"
    write_field(path, smooth_field(grid), grid)
    content = bytearray(path.read_bytes())
    content[68:70] = (1006).to_bytes(2, "little")
    path.write_bytes(content)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.array_equal(read_field(path)[0], truth)
    assert np.array_equal(read_image(path, ("vector",)).array, truth)
    assert not np.array_equal(truth, smooth_field(grid))


def test_what_is_no_field_is_refused(tmp_path: Path) -> None:
    for name, shape in (("scalar", (4, 5, 6)), ("four", (4, 5, 6, 3)), ("five", (4, 5, 6, 1, 3))):
        path = save(tmp_path / f"{name}.nii", numbers(shape))
        with pytest.raises(InputError, match=name):
            read_field(path)
    two = save(tmp_path / "two.nii", numbers((4, 5, 6, 1, 2)), intent_code=1007)
    with pytest.raises(GeometryError, match="components"):
        read_field(two)


@pytest.mark.parametrize("ndim", [2, 3])
def test_affine_round_trip(tmp_path: Path, ndim: int) -> None:
    matrix = some_affine(ndim)
    write_affine(tmp_path / "a.mat", matrix)
    assert np.allclose(read_affine(tmp_path / "a.mat", ndim), matrix, rtol=0, atol=1e-12)
    kind = sitk.ReadTransform(str(tmp_path / "a.mat"))
    assert "AffineTransform" in kind.GetName()
    with pytest.raises(GeometryError, match=r"3-D|2-D"):
        read_affine(tmp_path / "a.mat", 5 - ndim)


def test_every_linear_itk_transform_is_read(tmp_path: Path) -> None:
    euler = sitk.Euler3DTransform((10.0, 20.0, 5.0), 0.1, -0.2, 0.3, (3.0, 2.0, 1.0))
    similar = sitk.Similarity3DTransform()
    similar.SetScale(1.2)
    similar.SetCenter((5.0, 0.0, -3.0))
    chain = sitk.CompositeTransform([euler, sitk.TranslationTransform(3, (1.0, 2.0, 3.0))])
    point = np.array([[3.0, -4.0, 5.0]])
    for number, transform in enumerate((euler, similar, chain)):
        for suffix in (".tfm", ".txt", ".h5"):
            path = tmp_path / f"{number}{suffix}"
            sitk.WriteTransform(transform, str(path))
            moved = transform_points(point, [read_affine(path)])[0]
            assert np.allclose(moved, transform.TransformPoint(point[0].tolist()), atol=1e-9)


def test_bad_transform_files(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_text("nothing")
    with pytest.raises(InputError, match=r"a\.mat"):
        read_affine(tmp_path / "a.mat")
    with pytest.raises(InputError, match="no such file"):
        read_affine(tmp_path / "b.mat")
    grid = grids(2)["identity"]
    write_composite(tmp_path / "c.h5", np.eye(3), smooth_field(grid), grid)
    with pytest.raises(InputError, match="not a linear"):
        read_affine(tmp_path / "c.h5")


@pytest.mark.parametrize("ndim", [2, 3])
def test_composite_is_affine_after_field(tmp_path: Path, ndim: int) -> None:
    grid, matrix = grids(ndim)["oblique"], some_affine(ndim)
    field = smooth_field(grid)
    write_composite(tmp_path / "c.h5", matrix, field, grid)
    points = np.random.default_rng(1).normal(size=(20, ndim)) * 4
    itk = sitk.ReadTransform(str(tmp_path / "c.h5"))
    truth = np.array([itk.TransformPoint(p.tolist()) for p in points])
    assert np.allclose(transform_points(points, [(field, grid), matrix]), truth, atol=1e-9)
    parts = read_transforms(tmp_path / "c.h5")
    assert isinstance(parts[0], tuple)
    assert np.allclose(parts[1], matrix)
    assert np.allclose(transform_points(points, parts), truth, atol=1e-6)
