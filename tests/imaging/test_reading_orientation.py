"""Traps of orientation and scale: sform and qform, shear, units, voxel sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from imaging_cases import numbers, rotation, save
from reading_cases import refused, same_as_itk

from regtool.errors import GeometryError
from regtool.imaging.reading import read_image


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
