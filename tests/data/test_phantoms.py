"""Generated pairs: what they promise about labels, truth, headers and repeatability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regtool.data.phantom_files import PARTS, read_phantoms, write_phantom
from regtool.data.phantoms import KINDS, Phantom, make
from regtool.data.phantoms.heart import heart
from regtool.data.phantoms.shapes import monotone
from regtool.data.readers import open_data
from regtool.errors import OutputError, UsageError

SIZES = {"heart2d": None, "heart3d": 96, "brain": 56, "lung": 56}


@pytest.fixture(scope="module", params=KINDS)
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return make(request.param, seed=1, size=SIZES[request.param])


def pulled_back(image: NDArray[Any], displacement: NDArray[Any]) -> NDArray[Any]:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.shape], indexing="ij"))
    place = np.rint(index + displacement).astype(int)
    for axis, n in enumerate(image.shape):
        place[axis] = np.clip(place[axis], 0, n - 1)
    return image[tuple(place)]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0)


def determinant(u: NDArray[np.floating]) -> NDArray[np.floating]:
    n = len(u)
    jacobian = np.stack([np.stack(np.gradient(c)) for c in u]) + np.eye(n).reshape(n, n, *(1,) * n)
    return np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))


def test_shapes_types_and_labels(phantom: Phantom) -> None:
    shape = phantom.grid.shape
    for image in (phantom.fixed, phantom.moving):
        assert image.shape == shape
        assert image.dtype == np.int16
    for labels in (phantom.fixed_labels, phantom.moving_labels):
        assert labels.shape == shape
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, *phantom.names}
    assert phantom.displacement.shape == (len(shape), *shape)
    assert phantom.displacement.dtype == np.float32


def test_truth_is_a_smooth_map_that_explains_the_labels(phantom: Phantom) -> None:
    assert determinant(phantom.displacement).min() > 0.2
    warped = pulled_back(phantom.moving_labels, phantom.displacement)
    largest = [v for v in phantom.names if (phantom.fixed_labels == v).mean() > 0.002]
    before = [dice(phantom.moving_labels == v, phantom.fixed_labels == v) for v in largest]
    after = [dice(warped == v, phantom.fixed_labels == v) for v in largest]
    assert np.mean(after) > np.mean(before) + 0.03
    assert np.mean(before) < 0.95


def test_truth_explains_the_images() -> None:
    pair = make("heart2d", seed=4)
    warped = pulled_back(pair.moving, pair.displacement).astype(float)
    fixed, moving = pair.fixed.astype(float), pair.moving.astype(float)
    heart_region = pair.moving_labels > 0
    after = np.corrcoef(warped[heart_region], fixed[heart_region])[0, 1]
    before = np.corrcoef(moving[heart_region], fixed[heart_region])[0, 1]
    assert after > 0.93
    assert before < 0.75


def test_seed_varies_the_anatomy_and_nothing_else_does() -> None:
    first, again, other = (make("heart2d", seed=s) for s in (5, 5, 6))
    assert np.array_equal(first.fixed, again.fixed)
    assert np.array_equal(first.displacement, again.displacement)
    assert not np.array_equal(first.moving_labels, other.moving_labels)


@pytest.mark.parametrize("seed", range(6))
def test_hearts_beat_plausibly(seed: int) -> None:
    pair = heart(3, seed, (12, 48, 56), (8.0, 5.6, 5.6))
    cavity = [(labels == 3).sum() for labels in (pair.moving_labels, pair.fixed_labels)]
    assert 0.45 < 1 - cavity[1] / cavity[0] < 0.72  # ejection fraction
    muscle = [(labels == 2).sum() for labels in (pair.moving_labels, pair.fixed_labels)]
    assert 0.85 < muscle[1] / muscle[0] < 1.15  # incompressible
    assert (pair.fixed_labels == 1).sum() < 0.75 * (pair.moving_labels == 1).sum()


def test_contrast_is_that_of_the_modality() -> None:
    pair = make("heart2d", seed=2)
    right, muscle, left = (np.median(pair.moving[pair.moving_labels == v]) for v in (1, 2, 3))
    assert left > 2 * muscle
    assert right > 2 * muscle
    thorax = make("lung", seed=2, size=48)
    assert -920 < np.median(thorax.moving[thorax.moving_labels > 0]) < -700
    assert np.median(thorax.fixed[thorax.fixed_labels > 0]) > np.median(
        thorax.moving[thorax.moving_labels > 0]
    )
    assert thorax.moving.min() >= -1024
    head = make("brain", seed=2, size=48)
    csf, grey, white = (np.median(head.moving[head.moving_labels == v]) for v in (1, 2, 3))
    assert csf < grey < white


def test_stack_is_thick_and_oblique() -> None:
    grid = make("heart3d", seed=0, size=32).grid
    assert grid.size[2] == 12
    assert grid.spacing[2] == 8.0
    direction = grid.direction_matrix
    assert np.allclose(direction @ direction.T, np.eye(3))
    assert np.linalg.det(direction) == pytest.approx(1)
    assert np.abs(direction).max() < 0.95
    assert make("brain", size=24).grid.direction[::4] == (-1.0, -1.0, 1.0)


def test_monotone_map_meets_its_knots() -> None:
    knots = [np.float32(v) for v in (0, 2, 5, 9)]
    images = [np.float32(v) for v in (0, 3, 5.5, 9)]
    value = np.linspace(0, 12, 481, dtype=np.float32)
    result = monotone(value, [np.asarray(k) for k in knots], [np.asarray(i) for i in images])
    assert (np.diff(result) > 0).all()
    assert np.interp(knots, value, result) == pytest.approx(images, abs=1e-4)
    assert result[value > 9] == pytest.approx(value[value > 9])
    assert np.abs(np.diff(result, 2)).max() < 0.003  # no kinks


def test_written_files_carry_the_grid(tmp_path: Path) -> None:
    import SimpleITK as sitk

    pair = make("heart3d", seed=3, size=32)
    paths = {part: tmp_path / f"{part}.nii.gz" for part in PARTS}
    write_phantom(pair, paths)
    image = sitk.ReadImage(str(paths["fixed"]))
    assert np.array_equal(sitk.GetArrayFromImage(image), pair.fixed)
    assert image.GetSize() == pair.grid.size
    assert image.GetSpacing() == pytest.approx(pair.grid.spacing, rel=1e-5)
    assert image.GetDirection() == pytest.approx(pair.grid.direction, abs=1e-5)
    assert image.GetOrigin() == pytest.approx(pair.grid.origin, abs=1e-3)
    with pytest.raises(OutputError, match="exists already"):
        write_phantom(pair, paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths.values())


def test_phantom_reader() -> None:
    pairs = open_data("phantom:heart2d?n=5&seed=7&size=32")
    assert [p.name for p in pairs] == [f"heart2d_{s:04d}" for s in range(7, 12)]
    assert sorted(p.split for p in pairs) == ["train"] * 4 + ["val"]
    for pair in pairs:
        assert pair.fixed.labels is not None
        assert pair.fixed.image.is_file()
        assert pair.fixed.labels.is_file()
    assert len(open_data("phantom:?n=2&size=16")) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kidney", "heart2d, heart3d"),
        ("heart2d?count=3", "unknown setting 'count'"),
        ("heart2d?n=0", "n=0"),
        ("heart2d?n=many", "n=many"),
        ("heart2d?size=4", "from 16"),
    ],
)
def test_phantom_reader_refuses(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_phantoms(spec)
