"""Every header and file trap: read right, warned about, or refused in one clear line."""

from __future__ import annotations

import gzip
import shutil
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from imaging_cases import centred, grids, numbers, rotation, save

from regtool.errors import GeometryError, InputError
from regtool.imaging.image_write import write_image
from regtool.imaging.nifti_write import ras_affine
from regtool.imaging.reading import read_image, read_labels, read_mask


def refused(path: Path, *words: str, error: type[InputError] = InputError) -> None:
    with pytest.raises(error) as caught:
        read_image(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert caught.value.exit_code == 3


def same_as_itk(path: Path) -> None:
    volume, image = read_image(path), sitk.ReadImage(str(path))
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(image))
    assert volume.grid.size == image.GetSize()
    assert np.allclose(volume.grid.spacing, image.GetSpacing(), rtol=0, atol=1e-12)
    assert np.allclose(volume.grid.direction, image.GetDirection(), rtol=0, atol=1e-12)
    assert np.allclose(volume.grid.origin, image.GetOrigin(), rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("code", [2, 4])
def test_sform_of_another_space_loses_to_qform(tmp_path: Path, code: int) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), sform_code=code, srow_x=[2, 0, 0, 30])
    same_as_itk(path)
    volume = read_image(path)
    assert volume.header.agree is False
    assert volume.header.authority == "qform"
    assert "disagree" in volume.warnings[0]


def test_scanner_sform_wins(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), qform_code=2, srow_x=[2, 0, 0, 30])
    same_as_itk(path)
    volume = read_image(path)
    assert (volume.header.agree, volume.header.authority) == (False, "sform")
    assert volume.warnings


def test_qform_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), sform_code=0)
    same_as_itk(path)
    volume = read_image(path)
    assert (volume.header.agree, volume.header.authority, volume.warnings) == (None, "qform", ())


def test_no_orientation_is_warned_about(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), sform_code=0, qform_code=0)
    same_as_itk(path)
    volume = read_image(path)
    assert volume.grid.origin == (0, 0, 0)
    assert "no orientation" in volume.warnings[0]


def test_shear_is_refused_not_repaired(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), qform_code=0, srow_x=[2, 0.4, 0, 0])
    refused(path, "sheared", error=GeometryError)


def text_image(path: Path, columns: np.ndarray) -> Path:
    """A MetaImage or NRRD of zeros with these directions (a column an index axis)."""
    n = len(columns)
    size = (4, 5, 6, 3)[:n]
    rows = [" ".join(f"{v:.6g}" for v in column) for column in columns.T]
    if path.suffix == ".mha":
        head = (f"ObjectType = Image\nNDims = {n}\nBinaryData = True\n"
                f"TransformMatrix = {' '.join(rows)}\nOffset = {'0 ' * n}\n"
                f"ElementSpacing = {'1 ' * n}\nDimSize = {' '.join(map(str, size))}\n"
                "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n")  # fmt: skip
    else:
        vectors = " ".join(f"({row.replace(' ', ',')})" for row in rows)
        space = "left-posterior-superior" if n == 3 else "left-posterior-superior-time"
        head = (f"NRRD0004\ntype: uint8\ndimension: {n}\nspace: {space}\n"
                f"sizes: {' '.join(map(str, size))}\nspace directions: {vectors}\n"
                f"space origin: ({','.join('0' * n)})\nencoding: raw\n\n")  # fmt: skip
    path.write_bytes(head.encode() + bytes(int(np.prod(size))))
    return path


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("slope", [0.02, 0.1, 0.5])
def test_shear_is_refused_in_text_headers_too(tmp_path: Path, suffix: str, slope: float) -> None:
    columns = rotation(5, 3)
    columns[:, 1] += slope * columns[:, 0]
    columns[:, 1] /= np.linalg.norm(columns[:, 1])
    path = text_image(tmp_path / f"a{suffix}", columns)
    refused(path, "sheared", error=GeometryError)
    volume = read_image(text_image(path, rotation(5, 3).round(4)))
    assert np.allclose(volume.grid.direction_matrix, rotation(5, 3), atol=1e-3)


def test_a_time_axis_that_is_mixed_with_space_is_refused(tmp_path: Path) -> None:
    path = text_image(tmp_path / "a.mha", rotation(5, 4))
    with pytest.raises(GeometryError, match=r"a\.mha: a 4-D image whose time axis"):
        read_image(path, ("series",))
    columns = np.eye(4)
    columns[:3, :3] = rotation(5, 3)
    assert read_image(text_image(path, columns), ("series",)).frames == 3


def test_shear_beside_a_good_qform_is_warned_about(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), srow_x=[2, 0.4, 0, 0])
    same_as_itk(path)
    volume = read_image(path)
    assert volume.header.authority == "qform"
    assert "disagree" in volume.warnings[0]


def test_half_turn_quaternion_is_no_disagreement(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:3, :3] = np.array([[-0.8, -0.6, 0], [-0.6, 0.8, 0], [0, 0, -1]]) * 0.7
    path = save(tmp_path / "a.nii.gz", numbers((128, 120, 60), "uint8"), turn)
    assert read_image(path).warnings == ()


@pytest.mark.parametrize(("unit", "scale"), [(3, 0.001), (1, 1000.0), (2, 1.0), (0, 1.0)])
def test_units_become_mm(tmp_path: Path, unit: int, scale: float) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), xyzt_units=unit)
    same_as_itk(path)
    volume = read_image(path)
    assert np.allclose(volume.grid.spacing, np.array([2, 2, 3]) * scale)
    assert volume.header.units == {3: "um", 1: "m", 2: "mm", 0: "unknown"}[unit]
    assert volume.header.agree is True


def test_voxel_size_zero_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), pixdim=[1, 0, 2, 3, 1, 1, 1, 1])
    refused(path, "voxel size 0", error=GeometryError)


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


def test_truncated_plain_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((15, 14, 13)))
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "truncated")
    path.write_bytes(path.read_bytes()[:200])
    refused(path)


@pytest.mark.parametrize("lost", [1, 7, 100, 2000])
def test_truncated_gzip(tmp_path: Path, lost: int) -> None:
    path = save(tmp_path / "a.nii.gz", numbers((15, 14, 13)))
    path.write_bytes(path.read_bytes()[:-lost])
    refused(path, "truncated")


@pytest.mark.parametrize("where", [0.2, 0.5, 0.9, 0.999])
def test_flipped_byte_in_gzip(tmp_path: Path, where: float) -> None:
    path = save(tmp_path / "a.nii.gz", numbers((15, 14, 13)))
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0x10
    path.write_bytes(content)
    refused(path)


def test_short_data_in_a_sound_gzip(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((15, 14, 13)))
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()[:-100]))
    refused(packed, "truncated")


def test_names_that_lie_about_compression(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", numbers((5, 4, 3)))
    packed = save(tmp_path / "b.nii.gz", numbers((5, 4, 3)))
    truth = read_image(plain).array
    shutil.copy(plain, tmp_path / "c.nii.gz")
    shutil.copy(packed, tmp_path / "c.nii")
    shutil.copy(packed, tmp_path / "C.NII.GZ")
    for name in ("c.nii.gz", "c.nii", "C.NII.GZ"):
        assert np.array_equal(read_image(tmp_path / name).array, truth)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", numbers((15, 14, 13)))
    content = plain.read_bytes()
    packed = tmp_path / "b.nii.gz"
    starts = range(0, len(content), 999)
    packed.write_bytes(b"".join(gzip.compress(content[i : i + 999]) for i in starts))
    assert np.array_equal(read_image(packed).array, read_image(plain).array)


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


def _nifti2(path: Path, size: int) -> None:
    header = nib.Nifti2Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((size, size))
    header["vox_offset"], header["magic"] = 544, b"n+2\0\r\n\x1a\n"
    path.write_bytes(header.binaryblock + b"\0" * 1000)


def test_a_header_that_claims_a_million_squared(tmp_path: Path) -> None:
    _nifti2(tmp_path / "a.nii", 1_000_000)
    refused(tmp_path / "a.nii", "1000000×1000000")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    refused(tmp_path / "b.nii.gz", "1000000×1000000")
    (tmp_path / "c.mha").write_text(
        "ObjectType = Image\nNDims = 2\nDimSize = 1000000 1000000\nElementType = MET_UCHAR\n"
        "ElementDataFile = LOCAL\n"
    )
    refused(tmp_path / "c.mha")


def test_nifti2_reads(tmp_path: Path) -> None:
    values, affine = numbers((5, 4, 3), "int16"), np.diag([-2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti2Image(values, affine), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "b.nii.gz")
    two, one = read_image(tmp_path / "a.nii.gz"), read_image(tmp_path / "b.nii.gz")
    assert np.array_equal(two.array, one.array)
    assert two.grid.same_as(one.grid)


def test_missing_empty_folder_and_nonsense(tmp_path: Path) -> None:
    refused(tmp_path / "none.nii.gz", "no such file")
    (tmp_path / "empty.nii.gz").touch()
    refused(tmp_path / "empty.nii.gz", "empty")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "folder")
    (tmp_path / "text.nii").write_text("not an image" * 100)
    refused(tmp_path / "text.nii", "not an image")
    (tmp_path / "gz.nii.gz").write_bytes(gzip.compress(b"hello"))
    refused(tmp_path / "gz.nii.gz")
    (tmp_path / "raw.nii.gz").write_bytes(b"\x1f\x8b" + zlib.compress(b"hello"))
    refused(tmp_path / "raw.nii.gz", "corrupt")


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
