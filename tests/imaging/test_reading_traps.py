"""Types, shapes and kinds of images: read as ITK reads them, or refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from imaging_cases import centred, grids, numbers, rotation, save
from reading_cases import refused, same_as_itk

from regtool.errors import InputError
from regtool.imaging.image_write import write_image
from regtool.imaging.nifti_write import ras_affine
from regtool.imaging.reading import read_image, read_labels, read_mask


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
                                   "uint64", "float32", "float64"])  # fmt: skip
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_type_reads_as_itk(tmp_path: Path, dtype: str, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", numbers((5, 4, 3), dtype))
    same_as_itk(path)
    assert read_image(path).dtype == np.dtype(dtype)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", ["identity", "flipped", "oblique", "permuted", "anisotropic"])
def test_geometry_is_itk_s_and_survives_writing(tmp_path: Path, ndim: int, name: str) -> None:
    grid = grids(ndim)[name]
    path = tmp_path / "a.nii.gz"
    write_image(path, numbers(grid.shape), grid)
    same_as_itk(path)
    volume = read_image(path)
    assert volume.grid.same_as(grid)
    assert volume.warnings == ()
    assert volume.header.agree is True


def test_bytes_are_the_same_on_every_write(tmp_path: Path) -> None:
    grid = grids(3)["oblique"]
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(tmp_path / name, numbers(grid.shape), grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
def test_slope_is_applied_as_itk_does(tmp_path: Path, dtype: str) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3), dtype))
    content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, 112, 0.37, -11.5)
    path.write_bytes(content)
    same_as_itk(path)
    volume = read_image(path)
    assert volume.header.scaled
    assert volume.dtype == np.dtype(dtype)
    assert volume.array.dtype == (np.float64 if dtype == "float64" else np.float32)


def test_big_endian(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbers((5, 4, 3), "int16"), np.eye(4))
    image = nib.Nifti1Image(image.dataobj, image.affine, image.header.as_byteswapped(">"))
    nib.save(image, tmp_path / "a.nii")
    same_as_itk(tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").array.dtype.isnative


def test_nonfinite_values_are_counted_and_zeroed(tmp_path: Path) -> None:
    values = numbers((5, 4, 3)) + 1
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 2] = np.nan, np.inf, -np.inf
    path = save(tmp_path / "a.nii", values)
    same_as_itk(path)
    volume = read_image(path)
    assert volume.header.nonfinite == 3
    assert (volume.array == 0).sum() == 3
    assert "3 NaN" in volume.warnings[0]


def test_complex_colour_and_series_are_refused_by_name(tmp_path: Path) -> None:
    refused(save(tmp_path / "c.nii", np.ones((4, 4, 4), np.complex64)), "complex")
    colour = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(save(tmp_path / "rgb.nii", colour), "RGB")
    refused(save(tmp_path / "t.nii", numbers((4, 5, 6, 7))), "4×5×6×7", "frame")
    refused(save(tmp_path / "v.nii", numbers((4, 5, 6, 1, 3))), "5-D")


def test_one_frame_is_squeezed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((4, 5, 6, 1)))
    same_as_itk(path)
    assert read_image(path).kind == "scalar"


def test_series_and_colour_where_allowed(tmp_path: Path) -> None:
    path = save(tmp_path / "t.nii.gz", numbers((4, 5, 6, 7)), pixdim=[1, 2, 2, 3, 0.5, 1, 1, 1])
    volume = read_image(path, allow=("series",))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.array_equal(volume.array, truth)
    assert (volume.frames, volume.frame(2).array.shape) == (7, (6, 5, 4))
    step = volume.header.time_step
    write_image(tmp_path / "u.nii.gz", volume.array, volume.grid, volume, "series", step)
    again = nib.load(tmp_path / "u.nii.gz")
    assert np.array_equal(again.get_fdata(), nib.load(path).get_fdata())
    assert again.header["pixdim"][4] == pytest.approx(0.5)

    colour = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["R"], colour["B"] = numbers((4, 5, 3), "uint8"), 7
    path = save(tmp_path / "rgb.nii", colour)
    volume = read_image(path, allow=("rgb",))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.array_equal(volume.array, truth)
    write_image(tmp_path / "out.nii.gz", volume.array, volume.grid, volume, kind="rgb")
    again_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
    assert np.array_equal(again_itk, truth)


def test_nifti2_reads(tmp_path: Path) -> None:
    values, affine = numbers((5, 4, 3), "int16"), np.diag([-2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti2Image(values, affine), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "b.nii.gz")
    two, one = read_image(tmp_path / "a.nii.gz"), read_image(tmp_path / "b.nii.gz")
    assert np.array_equal(two.array, one.array)
    assert two.grid.same_as(one.grid)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    grid = centred((6, 5, 4), (1.0, 2.0, 3.0), rotation(1, 3))
    write_image(tmp_path / f"a{suffix}", numbers(grid.shape, "int16"), grid)
    same_as_itk(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").grid.same_as(grid)
    content = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"b{suffix}").write_bytes(content[:-40])
    refused(tmp_path / f"b{suffix}")


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 1, 1)])
def test_flat_files_keep_their_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save(tmp_path / "a.nii.gz", numbers(shape))
    volume = read_image(path)
    assert (volume.ndim, volume.is_one_slice) == ((2, False) if len(shape) == 2 else (3, True))
    write_image(tmp_path / "b.nii.gz", volume.array, volume.grid, volume)
    again = nib.load(tmp_path / "b.nii.gz")
    assert again.header["dim"][0] == len(shape)
    assert np.array_equal(np.squeeze(again.get_fdata()), np.squeeze(nib.load(path).get_fdata()))
    assert np.allclose(again.affine[:2, :2], nib.load(path).affine[:2, :2])
    assert read_image(tmp_path / "b.nii.gz").grid.same_as(volume.grid)


def test_written_matrix_is_the_grid(tmp_path: Path) -> None:
    grid = grids(3)["oblique"]
    write_image(tmp_path / "a.nii", numbers(grid.shape), grid)
    header = nib.load(tmp_path / "a.nii").header
    assert np.allclose(header.get_sform(), ras_affine(grid), atol=1e-5)
    assert np.allclose(header.get_qform(), ras_affine(grid), atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_labels_must_be_whole_numbers(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.nii", numbers((5, 4, 3), "float64"))
    assert read_labels(whole).array.dtype == np.uint8
    negative = save(tmp_path / "b.nii", numbers((5, 4, 3)) - 300)
    assert read_labels(negative).array.dtype == np.int16
    kept = save(tmp_path / "c.nii", numbers((5, 4, 3), "int32"))
    assert read_labels(kept).array.dtype == np.int32
    with pytest.raises(InputError, match="whole"):
        read_labels(save(tmp_path / "d.nii", numbers((5, 4, 3)) + 0.5))
    assert set(np.unique(read_mask(whole).array)) == {0, 1}
