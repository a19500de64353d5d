"""What a header said is kept with the image: form, codes, intent, unit, time."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from imaging_cases import grids, numbers, save, smooth_field

from regtool.errors import InputError
from regtool.imaging.reading import from_values, read_image
from regtool.imaging.transforms import write_field
from regtool.imaging.volume import HeaderFacts, Volume


def test_codes_shape_and_version(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbers((5, 4, 3, 1)), sform_code=2, qform_code=1)
    facts = read_image(path).header
    assert (facts.format, facts.stored_shape) == ("NIfTI-1", (5, 4, 3, 1))
    assert (facts.sform_code, facts.qform_code) == (2, 1)
    assert (facts.intent, facts.units, facts.time_step) == (0, "unknown", 1.0)
    nib.save(nib.Nifti2Image(numbers((5, 4, 3)), np.diag([2.0, 2, 3, 1])), tmp_path / "b.nii")
    assert read_image(tmp_path / "b.nii").header.format == "NIfTI-2"


def test_intent_and_time_step(tmp_path: Path) -> None:
    grid = grids(3)["oblique"]
    write_field(tmp_path / "a.nii", smooth_field(grid), grid)
    field = read_image(tmp_path / "a.nii", ("vector",))
    assert (field.header.intent, field.kind) == (1007, "vector")
    path = save(tmp_path / "t.nii", numbers((4, 5, 6, 7)), pixdim=[1, 2, 2, 3, 0.25, 1, 1, 1])
    assert read_image(path, ("series",)).header.time_step == 0.25
    for number in (0, -2, np.nan, np.inf):
        path = save(tmp_path / "u.nii", numbers((4, 5, 6, 7)), pixdim=[1, 2, 2, 3, number, 1, 1, 1])
        assert read_image(path, ("series",)).header.time_step == 1.0
    for unit, factor in ((8, 1), (16, 1e-3), (24, 1e-6)):
        path = save(
            tmp_path / "v.nii", numbers((4, 5, 6, 7)), pixdim=[1, 2, 2, 3, 40, 1, 1, 1],
            xyzt_units=2 | unit,
        )  # fmt: skip
        assert read_image(path, ("series",)).header.time_step == pytest.approx(40 * factor)


def test_both_forms_that_fit_nothing_are_warned_about(tmp_path: Path) -> None:
    """The matrix has other lengths than the voxel size, and ITK takes the size."""
    path = save(
        tmp_path / "a.nii", numbers((5, 4, 3)), qform_code=0, pixdim=[1, 2, 2.5, 3, 1, 1, 1, 1]
    )
    volume = read_image(path)
    assert volume.header.authority == "none"
    assert len(volume.warnings) == 1 and "pixdim" in volume.warnings[0]


def test_an_image_made_in_memory(tmp_path: Path) -> None:
    grid = grids(2)["identity"]
    volume = Volume(numbers(grid.shape), grid)
    assert volume.header == HeaderFacts("memory", (), 0, 0, None, "none", "mm", 0, 0, False, 1.0)
    assert (volume.name, volume.frames, volume.ndim, volume.dtype) == ("image", 1, 2, np.float32)
    assert volume.frame(0) is volume
    with pytest.raises(IndexError, match="one frame"):
        volume.frame(1)
    with pytest.raises(ValueError, match="fit"):
        Volume(numbers(grid.shape)[1:], grid)


def test_frames_of_a_series_are_counted_from_0() -> None:
    grid = grids(2)["identity"]
    series = Volume(np.stack([numbers(grid.shape, seed=s) for s in range(3)]), grid, "series")
    assert np.array_equal(series.frame(2).array, series.array[2])
    assert series.frame(0).kind == "scalar"
    for number in (-1, 3):
        with pytest.raises(IndexError, match="0 to 2"):
            series.frame(number)


@pytest.mark.parametrize(
    ("spacing", "shift", "agree"), [(5.0, 0.25, True), (0.5, 0.1, False), (0.5, 0.02, True)]
)
def test_forms_agree_within_a_tenth_of_a_voxel(
    tmp_path: Path, spacing: float, shift: float, agree: bool
) -> None:
    affine = np.diag([spacing, spacing, 2.0, 1.0])
    path = save(tmp_path / "a.nii", numbers((5, 4, 3)), affine, srow_x=[spacing, 0, 0, shift])
    assert read_image(path).header.agree is agree


@pytest.mark.parametrize("code", [32, 1792, 2048])
def test_every_complex_type_is_refused_as_such(tmp_path: Path, code: int) -> None:
    path = save(tmp_path / "a.nii", np.ones((3, 3, 3), "complex128"), datatype=code)
    with pytest.raises(InputError, match="complex"):
        read_image(path)


def test_values_read_elsewhere_are_checked_too() -> None:
    grid = grids(2)["identity"]
    values = numbers(grid.shape)
    values[0, 0], values[1, 2] = np.nan, np.inf
    volume = from_values(Path("pair.pkl"), values, grid, "pickle")
    assert (volume.header.format, volume.header.nonfinite) == ("pickle", 2)
    assert volume.array[0, 0] == volume.array[1, 2] == 0
    assert "2 NaN" in volume.warnings[0] and "pair.pkl" in volume.warnings[0]
    sound = from_values(Path("pair.pkl"), numbers(grid.shape), grid, "pickle")
    assert (sound.header.nonfinite, sound.warnings) == (0, ())
