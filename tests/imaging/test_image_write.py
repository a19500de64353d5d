"""Vectors and series are written so that others, and regtool, read them back as they were."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from imaging_cases import grids, numbers, one_slice_grid, smooth_field

from regtool.engine.apply import apply
from regtool.imaging.image_write import write_image
from regtool.imaging.reading import read_image
from regtool.imaging.transforms import write_affine, write_field
from regtool.spatial.grid import Grid

GRIDS = {
    "2-D": grids(2)["oblique"], "volume": grids(3)["oblique"], "slice": one_slice_grid(shift=3.0)
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_vectors_come_back(tmp_path: Path, grid: Grid, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    values = smooth_field(grid)
    write_image(path, values, grid, kind="vector")
    volume = read_image(path, ("vector",))
    assert volume.grid.same_as(grid)
    assert np.array_equal(volume.array, values)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).squeeze(),
                          values.squeeze())  # fmt: skip
    if suffix == ".nii":
        image = nib.load(path)
        assert image.shape == (*(*grid.size, 1)[:3], 1, grid.ndim)
        assert image.header["intent_code"] == 1007
        assert np.array_equal(np.asarray(image.dataobj).T.reshape(grid.ndim, *grid.shape),
                              np.moveaxis(values, -1, 0))  # fmt: skip


def test_vectors_of_other_lengths_and_types(tmp_path: Path) -> None:
    grid = grids(3)["flipped"]
    for components, dtype in ((2, "int16"), (4, "float64"), (9, "uint8")):
        values = numbers((*grid.shape, components), dtype)
        write_image(tmp_path / "a.nii", values, grid, kind="vector")
        again = read_image(tmp_path / "a.nii", ("vector",))
        assert again.array.dtype == np.dtype(dtype)
        assert np.array_equal(again.array, values)


@pytest.mark.parametrize("intent", [1006, 1007])
def test_apply_to_a_field(tmp_path: Path, intent: int) -> None:
    """Whatever the frame of the components in the file, ITK sees the same vectors in the result."""
    grid = grids(3)["oblique"]
    write_field(tmp_path / "a.nii", smooth_field(grid), grid)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[68:70] = intent.to_bytes(2, "little")
    (tmp_path / "a.nii").write_bytes(content)
    write_affine(tmp_path / "still.mat", np.eye(4))
    apply(tmp_path / "a.nii", [str(tmp_path / "still.mat")], reference=tmp_path / "a.nii",
          output=tmp_path / "b.nii.gz", device="cpu")  # fmt: skip
    before, after = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name)))
                     for name in ("a.nii", "b.nii.gz"))  # fmt: skip
    assert np.allclose(before, after, rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_series_come_back_with_their_time(tmp_path: Path, grid: Grid, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    values = numbers((5, *grid.shape))
    write_image(path, values, grid, kind="series", time_step=0.04)
    volume = read_image(path, ("series",))
    assert volume.header.time_step == pytest.approx(0.04)
    assert np.array_equal(volume.array, values.reshape(volume.array.shape))
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == (*(*grid.size, 1)[:3], 5)
    assert np.allclose(image.GetSpacing()[: grid.ndim], grid.spacing)
    assert image.GetSpacing()[3] == pytest.approx(0.04)


def test_a_series_keeps_its_own_time_on_the_grid_of_another(tmp_path: Path) -> None:
    grid = grids(3)["identity"]
    write_image(tmp_path / "s.nii", numbers((4, *grid.shape)), grid, kind="series", time_step=0.05)
    write_image(tmp_path / "r.nii", numbers((3, *grid.shape)), grid, kind="series", time_step=2.0)
    write_affine(tmp_path / "still.mat", np.eye(4))
    for name in ("o.nii.gz", "o.mha", "o.nrrd"):
        apply(tmp_path / "s.nii", [str(tmp_path / "still.mat")], reference=tmp_path / "r.nii",
              output=tmp_path / name, device="cpu")  # fmt: skip
        result = read_image(tmp_path / name, ("series",))
        assert result.header.time_step == pytest.approx(0.05)
        assert np.allclose(result.array, numbers((4, *grid.shape)), rtol=0, atol=1e-3)
