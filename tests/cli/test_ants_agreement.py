"""What ANTs makes of regtool's files is what regtool makes of them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_cases import Case, Program
from registration_cases import read_array, read_csv

ants = pytest.importorskip("ants", reason="antspyx is not installed")
pandas = pytest.importorskip("pandas", reason="pandas comes with antspyx")


def by_ants(
    fixed: Path,
    moving: Path,
    transforms: list[Path],
    invert: list[bool] | None = None,
    interpolation: str = "linear",
) -> np.ndarray:
    """The moving image as antsApplyTransforms resamples it, in ITK's array order."""
    image = ants.apply_transforms(
        fixed=ants.image_read(str(fixed)),
        moving=ants.image_read(str(moving)),
        transformlist=[str(t) for t in transforms],
        whichtoinvert=invert,
        interpolator=interpolation,
    )
    return image.numpy().T


def forward(case: Case) -> list[Path]:
    """The files of the transform; ITK misplaces a one-slice field that is not at z = 0."""
    if case.fixed.size[2:] == (1,):
        return [case.output("Composite.h5")]
    return [case.output("1Warp.nii.gz"), case.output("0GenericAffine.mat")]


def close(one: np.ndarray, other: np.ndarray, share: float = 1e-3) -> None:
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= share * np.ptp(other)


def test_forward(done: Case) -> None:
    made = by_ants(done.files["fixed"], done.files["moving"], forward(done))
    close(made, read_array(done.output("Warped.nii.gz")))


@pytest.mark.parametrize("name", ["done2d", "done3d", "done_stack", "done_level"])
def test_inverse(name: str, request: pytest.FixtureRequest) -> None:
    done: Case = request.getfixturevalue(name)
    chain = [done.output("0GenericAffine.mat"), done.output("1InverseWarp.nii.gz")]
    made = by_ants(done.files["moving"], done.files["fixed"], chain, [True, False])
    close(made, read_array(done.output("InverseWarped.nii.gz")))


def test_composite(done: Case) -> None:
    made = by_ants(done.files["fixed"], done.files["moving"], [done.output("Composite.h5")])
    close(made, read_array(done.output("Warped.nii.gz")))


def test_one_slice_at_the_origin(done_level: Case) -> None:
    """There ITK reads the field as it is meant."""
    chain = [done_level.output("1Warp.nii.gz"), done_level.output("0GenericAffine.mat")]
    made = by_ants(done_level.files["fixed"], done_level.files["moving"], chain)
    close(made, read_array(done_level.output("Warped.nii.gz")))


@pytest.mark.parametrize("name", ["done2d", "done3d", "done_stack"])
def test_there_and_back(name: str, request: pytest.FixtureRequest) -> None:
    """Through the field and its inverse an image comes back, away from its border."""
    done: Case = request.getfixturevalue(name)
    chain = [done.output("1InverseWarp.nii.gz"), done.output("1Warp.nii.gz")]
    fixed = done.files["fixed"]
    made, original = by_ants(fixed, fixed, chain), read_array(fixed)
    inner = tuple(slice(5, -5) if n > 14 else slice(None) for n in original.shape)
    assert np.abs(made - original)[inner].mean() < 0.01 * np.ptp(original)


@pytest.mark.parametrize("name", ["done2d", "done3d", "done_level"])
def test_apply_is_ants_apply_transforms(
    name: str, regtool: Program, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The same -t, in the same order, in every form."""
    done: Case = request.getfixturevalue(name)
    warp, affine = done.output("1Warp.nii.gz"), done.output("0GenericAffine.mat")
    for number, (specs, files, invert) in enumerate(
        [
            ([warp, affine], [warp, affine], [False, False]),
            ([affine, warp], [affine, warp], [False, False]),
            ([f"[{affine},1]", warp], [affine, warp], [True, False]),
            ([f"[{affine},1]"], [affine], [True]),
        ]
    ):
        target = tmp_path / f"{number}.nii.gz"
        flags = [part for spec in specs for part in ("-t", spec)]
        args = ("apply", done.files["moving"], "-r", done.files["fixed"], *flags, "-o", target)
        assert regtool(*args).ok().out == ""
        close(read_array(target), by_ants(done.files["fixed"], done.files["moving"], files, invert))
        assert nib.load(target).shape == done.fixed.size


def test_record_is_the_whole_chain(done: Case, regtool: Program, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    regtool("apply", done.files["moving"], "-t", done.record, "-o", out).ok()
    close(read_array(out).squeeze(), read_array(done.output("Warped.nii.gz")).squeeze(), 1e-6)
    back = tmp_path / "back.nii.gz"
    regtool("apply", done.files["fixed"], "-t", done.record, "--inverse", "-o", back,
            "-r", done.files["moving"]).ok()  # fmt: skip
    close(read_array(back), read_array(done.output("InverseWarped.nii.gz")), 1e-6)


def test_nearest_labels(done: Case, regtool: Program, tmp_path: Path) -> None:
    out = tmp_path / "labels.nii.gz"
    regtool("apply", done.files["moving_labels"], "-r", done.files["fixed"], "-t", done.record,
            "-n", "nearest", "-o", out).ok()  # fmt: skip
    image = done.files["moving_labels"]
    made = by_ants(done.files["fixed"], image, forward(done), None, "nearestNeighbor")
    assert (read_array(out) == made).mean() > 0.999
    assert read_array(out).dtype == np.uint8


@pytest.mark.parametrize("name", ["done2d", "done3d"])
def test_points(
    name: str, regtool: Program, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Landmarks go from fixed to moving space, as with antsApplyTransformsToPoints."""
    case: Case = request.getfixturevalue(name)
    out = tmp_path / "there.csv"
    regtool("apply", case.files["fixed_points"], "-t", case.record, "-o", out).ok()
    points = read_csv(case.files["fixed_points"])
    frame = pandas.DataFrame(points, columns=list("xyz")[: case.fixed.ndim])
    chain = [str(case.output("1Warp.nii.gz")), str(case.output("0GenericAffine.mat"))]
    ndim = case.fixed.ndim
    made = ants.apply_transforms_to_points(ndim, frame, chain).to_numpy()[:, :ndim]
    np.testing.assert_allclose(read_csv(out), made, atol=2e-3)
    assert np.abs(read_csv(out) - read_csv(case.files["moving_points"])).max() < 3.0
    back = tmp_path / "back.csv"
    regtool("apply", out, "-t", case.record, "--inverse", "-o", back).ok()
    frame = pandas.DataFrame(read_csv(out), columns=list("xyz")[:ndim])
    chain = [str(case.output("0GenericAffine.mat")), str(case.output("1InverseWarp.nii.gz"))]
    made = ants.apply_transforms_to_points(ndim, frame, chain, [True, False]).to_numpy()[:, :ndim]
    np.testing.assert_allclose(read_csv(back), made, atol=2e-3)
    assert np.abs(read_csv(back) - points).mean() < 0.1, "mm"
