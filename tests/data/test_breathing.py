"""Synthetic breathing: the known field, the landmarks, the density, and the reader."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from evaluation_cases import write_record
from scipy import ndimage

from regtool.data.breathing import (
    TRAINING,
    make_breathing,
    parse,
    read_breathing,
)
from regtool.data.breathing_ct import find_lungs, read_thorax
from regtool.data.breathing_files import ALL, landmarks, part_paths, truth, write_breathing
from regtool.data.phantoms import make
from regtool.data.phantoms.landmarks import choose_landmarks, distinctiveness
from regtool.data.phantoms.lung_anatomy import Anatomy
from regtool.data.phantoms.lung_motion import FAMILIES
from regtool.data.readers import open_data
from regtool.engine.evaluate.pair import evaluate_record
from regtool.engine.evaluate.settings import Settings
from regtool.errors import InputError, UsageError
from regtool.imaging.image_write import write_image
from regtool.imaging.points import read_points
from regtool.imaging.reading import read_image
from regtool.imaging.resample import resample
from regtool.spatial.grid import Grid
from regtool.spatial.jacobian import field_jacobian, folds


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of 7 mm from head to feet, as scanners store it, around a generated chest."""
    chest = make("lung", seed=3, size=48)
    values = np.full((48, 58, 52), -1000, np.int16)  # air around the patient
    values[:, 5:53, 2:50] = chest.moving
    direction = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    grid = Grid((52, 58, 48), (7.0, 5.133, 6.25), direction, (20.0, -310.0, 140.0))
    path = tmp_path_factory.mktemp("ct") / "chest.v1.nii.gz"
    write_image(path, values[::-1], grid)
    return path


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, ct: Path, tmp_path_factory: pytest.TempPathFactory):
    """A pair of each family in memory and as files: generated, but one of the CT."""
    family = str(request.param)
    thorax = read_thorax(ct) if family == "sliding" else None
    phantom = make_breathing(thorax, family, 11, 7.0)
    paths = part_paths(tmp_path_factory.mktemp(family), ALL)
    count = write_breathing(phantom, paths)
    return SimpleNamespace(family=family, phantom=phantom, paths=paths, count=count)


def determinant(pair) -> torch.Tensor:
    return field_jacobian(truth(pair.phantom), pair.phantom.grid)


def values(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_landmarks_move_as_breathing_does(pair) -> None:
    fixed, moving = landmarks(pair.phantom)
    assert pair.count == len(fixed) == len(moving) == 300
    assert len(np.unique(fixed, axis=0)) == 300
    far = np.linalg.norm(moving - fixed, axis=1)
    assert 4 < far.mean() < 12
    assert far.max() < 32
    grid = pair.phantom.grid
    for points in (fixed, moving):
        index = points @ grid.world_to_index[:3, :3].T + grid.world_to_index[:3, 3]
        assert (index > -1e-3).all()
        assert (index < np.asarray(grid.size) - 1 + 1e-3).all()
    index = np.rint(fixed @ grid.world_to_index[:3, :3].T + grid.world_to_index[:3, 3]).astype(int)
    assert (pair.phantom.fixed_labels[tuple(index[:, ::-1].T)] > 0).all()


def test_truth_has_no_folds_and_its_determinant_is_plausible(pair) -> None:
    det = determinant(pair)
    assert folds(det).count == 0
    assert folds(det).min >= 0.19
    in_lungs = det[torch.from_numpy(pair.phantom.fixed_labels > 0)]
    assert 0.6 < float(in_lungs.mean()) < 1.6


def test_simpleitk_maps_fixed_to_moving_landmarks(pair) -> None:
    image = sitk.ReadImage(str(pair.paths["truth"]), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(image)
    fixed, moving = (
        read_points(pair.paths[f"{side}_points"]).points for side in ("fixed", "moving")
    )
    mapped = np.array([transform.TransformPoint(p.tolist()) for p in fixed])
    # Landmarks are written in full; the files' grids are rounded to float32.
    assert np.abs(mapped - moving).max() < 1e-3


def test_evaluate_finds_no_error_of_the_truth(pair, tmp_path: Path) -> None:
    field = truth(pair.phantom)
    paths = {name: path for name, path in pair.paths.items() if name != "truth"}
    grid = pair.phantom.grid
    record = write_record(tmp_path / "r_", paths, field, -field, pair.phantom.moving, grid)
    found = evaluate_record(record, settings=Settings(metrics=("tre", "folds")))
    assert found["after"]["tre"] < 1e-3
    assert found["after"]["tre_max"] < 2e-3
    assert found["after"]["folds"] == 0
    assert 4 < found["before"]["tre"] < 12
    assert found["details"]["tre"]["after"]["count"] == 300


def test_warped_moving_shows_the_fixed_image(pair) -> None:
    """Without noise and density, which differ, the structures coincide."""
    fixed, moving, labels = (
        read_image(pair.paths[k]) for k in ("fixed", "moving", "moving_labels")
    )
    chain = [(truth(pair.phantom), pair.phantom.grid)]
    warped = resample(moving, fixed.grid, chain).astype(float)
    lungs = ndimage.binary_dilation(pair.phantom.fixed_labels > 0, iterations=2)

    def alike(other: np.ndarray) -> float:
        calm = [ndimage.gaussian_filter(v.astype(float), 0.7)[lungs] for v in (fixed.array, other)]
        return float(np.corrcoef(calm)[0, 1])

    assert alike(warped) > 0.97
    assert alike(warped) > alike(moving.array) + 0.02
    mapped = resample(labels, fixed.grid, chain, interpolation="nearest")
    overlap = 2 * ((mapped > 0) & (pair.phantom.fixed_labels > 0)).sum()
    assert overlap / ((mapped > 0).sum() + (pair.phantom.fixed_labels > 0).sum()) > 0.95


def test_lungs_keep_their_mass(pair) -> None:
    """HU + 1000 of aerated tissue is that of the moving image times the determinant."""
    fixed, moving = (read_image(pair.paths[k]) for k in ("fixed", "moving"))
    warped = resample(moving, fixed.grid, [(truth(pair.phantom), pair.phantom.grid)])
    det = determinant(pair).numpy()
    deep = ndimage.binary_erosion(pair.phantom.fixed_labels > 0, iterations=2)
    deep &= (fixed.array < -800) & (warped < -800) & (np.abs(warped) < 930)
    density = [np.asarray(v[deep], float) + 1000 for v in (fixed.array, warped)]
    ratio = density[0] / density[1]
    for part in (det[deep] < np.median(det[deep]), det[deep] >= np.median(det[deep])):
        assert np.median(ratio[part]) == pytest.approx(np.median(det[deep][part]), rel=0.08)
    spread = np.corrcoef(ndimage.gaussian_filter1d(ratio, 1), det[deep])[0, 1]
    assert spread > 0.2 or det[deep].std() < 0.05


def test_images_share_no_noise(ct: Path) -> None:
    """Two scans of the same places: what differs is noise, and it has no common part."""
    thorax = read_thorax(ct)
    x, y, z = np.meshgrid(*(np.arange(-40.0, 40, 4, np.float32),) * 3, indexing="ij")
    still = np.ones(x.shape, np.float32)
    scans = [
        thorax.scan((x, y, z), still, np.random.default_rng(seed))[0].astype(float)
        for seed in range(4)
    ]
    first, second = scans[0] - scans[1], scans[2] - scans[3]
    assert 12 < first.std() / np.sqrt(2) < 25
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_sliding_jumps_along_the_wall_only() -> None:
    """Across the pleura the tangential motion changes within millimetres, the normal one hardly."""

    def lungs(p):
        x, y, z = p
        right = ((x + 60) / 50) ** 2 + (y / 70) ** 2 + (z / 110) ** 2 < 1
        left = ((x - 60) / 50) ** 2 + (y / 70) ** 2 + (z / 110) ** 2 < 1
        return right + 2 * left

    anatomy = Anatomy.of(lungs, (220.0, 140.0, 220.0), np.zeros(3, np.float32))
    angle = np.linspace(-0.6, 0.6, 31)
    z = np.repeat(-20.0, 31)
    grid = [
        np.linspace(60, 125, 400)[:, None] * np.cos(angle),
        0.9 * 100 * np.sin(angle) + np.zeros((400, 1)),
        z + np.zeros((400, 1)),
    ]
    ray = tuple(v.astype(np.float32) for v in grid)
    depth = anatomy.wall.depth(ray)
    normal = np.stack(anatomy.wall.normal(ray))
    jumps = {}
    for family in ("sliding", "diaphragm"):
        moved = np.stack(FAMILIES[family](anatomy, np.random.default_rng(1))(ray, 10.0))
        inner = [np.argmin(np.abs(depth[:, k] - 6)) for k in range(31)]
        outer = [np.argmin(np.abs(depth[:, k] + 6)) for k in range(31)]
        step = moved[:, inner, range(31)] - moved[:, outer, range(31)]
        across = (step * normal[:, inner, range(31)]).sum(0)
        jumps[family] = np.linalg.norm(step, axis=0).mean()
        if family == "sliding":
            assert np.abs(across).mean() < 0.12 * jumps[family]
    assert jumps["sliding"] > 5
    assert jumps["sliding"] > 3 * jumps["diaphragm"]


def test_general_moves_right_and_left_unequally_and_lifts_the_chest() -> None:
    pair = make_breathing(None, "general", 4, 8.0)
    field = truth(pair)
    right, left = (np.abs(field[pair.fixed_labels == v][:, 2].mean()) for v in (1, 2))
    assert max(right, left) > 1.3 * min(right, left)
    front, back = field[:, :6, :, 1].mean(), field[:, -6:, :, 1].mean()
    assert abs(front - back) > 1


def test_lungs_are_found_right_and_left_without_the_trachea(ct: Path) -> None:
    volume = read_image(ct)
    found = find_lungs(volume.array, volume.grid)
    truth_labels = make("lung", seed=3, size=48).moving_labels
    placed = np.zeros(volume.array.shape, np.uint8)
    placed[:, 5:53, 2:50] = truth_labels
    for value in (1, 2):
        mine, known = found == value, placed[::-1] == value
        assert 2 * (mine & known).sum() / (mine.sum() + known.sum()) > 0.9
    trachea = (volume.array < -900) & (placed[::-1] == 0)
    trachea[:, :, :20] = trachea[:, :, 32:] = False  # what is left of it lies in the middle
    inner = ndimage.binary_erosion(volume.array > -300, iterations=1)
    assert inner.any()
    assert (found[trachea] > 0).mean() < 0.05


def test_what_is_no_thorax_is_refused(tmp_path: Path, ct: Path) -> None:
    volume = read_image(ct)
    path = tmp_path / "head.nii.gz"
    write_image(path, np.full(volume.array.shape, 40, np.int16), volume.grid)
    with pytest.raises(InputError, match="no two lungs"):
        read_breathing(f"{path}?n=1")
    with pytest.raises(InputError, match="no such file"):
        open_data(f"breathing:{tmp_path / 'none.nii.gz'}")
    write_image(
        path,
        volume.array[:8],
        Grid((52, 58, 8), volume.grid.spacing, volume.grid.direction, volume.grid.origin),
    )
    with pytest.raises(InputError, match="16 slices"):
        read_thorax(path)


def test_same_seed_same_pair_other_seed_another() -> None:
    first, again = (make_breathing(None, "sliding", 5, 12.0) for _ in range(2))
    other = make_breathing(None, "sliding", 6, 12.0)
    assert np.array_equal(first.fixed, again.fixed)
    assert np.array_equal(first.displacement, again.displacement)
    assert not np.array_equal(first.moving_labels, other.moving_labels)


def test_voxels_of_a_micrometre_are_refused_without_a_huge_ball(tmp_path: Path) -> None:
    """Eroding by 6 mm would be a ball of 12,000 voxels a side."""
    values = np.full((20, 20, 20), -900.0, np.float32)
    values[:, :2] = values[:, -2:] = values[:, :, :2] = values[:, :, -2:] = 40
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1e-3, 20.0, 20.0))
    sitk.WriteImage(image, str(tmp_path / "small.nii"))
    with pytest.raises(InputError, match="no two lungs"):
        read_thorax(tmp_path / "small.nii")


def test_reader_of_generated_thoraxes() -> None:
    pairs = open_data(
        "breathing:phantom?n=5&seed=7&spacing=14&family=sliding+general+diaphragm&landmarks=40"
    )
    assert [p.name.split("_")[2] for p in pairs] == [
        "sliding",
        "general",
        "diaphragm",
        "sliding",
        "general",
    ]
    assert [p.name[-4:] for p in pairs] == ["0007", "0008", "0009", "0010", "0011"]
    assert {p.split for p in pairs if "general" in p.name} == {"test"}
    assert {p.split for p in pairs if "general" not in p.name} <= {"train", "val"}
    for pair in pairs:
        for side in (pair.fixed, pair.moving):
            assert side.labels is not None
            assert side.points is not None
            assert read_image(side.image).grid.spacing == pytest.approx((14, 14, 14))
            assert len(read_points(side.points).points) == 40


def test_reader_of_a_ct(ct: Path) -> None:
    """The CT's orientation stays; the fixed image is the inspiration, its tissue lies lower."""
    pairs = open_data(f"breathing:{ct}?n=2&family=diaphragm&spacing=9&margin=12&mark=train")
    assert [(p.name, p.split) for p in pairs] == [
        ("breathing_chest_diaphragm_0000", "train"),
        ("breathing_chest_diaphragm_0001", "train"),
    ]
    one = read_image(pairs[0].fixed.image)
    assert one.grid.direction_matrix[2, 2] == -1
    assert one.grid.spacing == pytest.approx((9, 9, 9))
    assert all(a < b for a, b in zip(one.grid.extent, read_image(ct).grid.extent, strict=True))
    assert pairs[0].fixed.points is not None
    assert pairs[0].moving.points is not None
    moved = read_points(pairs[0].moving.points).points - read_points(pairs[0].fixed.points).points
    assert moved[:, 2].mean() > 2  # up is +z
    assert len(moved) == 300


def test_families_for_tests_cannot_be_marked_for_training() -> None:
    pairs = read_breathing("?n=1&family=general&spacing=16&mark=train&landmarks=9")
    assert pairs[0].split == "test"
    assert parse("?n=3") == parse("phantom?n=3")
    assert parse("")[1].family == TRAINING


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("phantom?count=3", "unknown setting 'count'"),
        ("phantom?n=0", "n=0"),
        ("phantom?spacing=0.1", "1 to 20 mm"),
        ("phantom?spacing=nan", "1 to 20 mm"),
        ("phantom?family=diaphragm+hiccup", "diaphragm, sliding, general"),
        ("phantom?mark=tset", "train, val, test"),
    ],
)
def test_reader_refuses(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_breathing(spec)


def test_distinctive_places_are_found_and_kept_apart() -> None:
    """Corners of a cube stand out from its faces and edges; landmarks keep their distance."""
    image = np.zeros((40, 40, 40), np.float32)
    image[10:30, 10:30, 10:30] = 100
    worth = distinctiveness(image, (1.0, 1.0, 1.0))
    assert worth[10, 10, 10] > 10 * worth[10, 20, 10]
    assert worth[10, 10, 10] > 10 * worth[10, 20, 20]
    corners = choose_landmarks(image, np.ones_like(image, bool), (1.0, 1.0, 1.0), 8)
    assert {tuple(c > 20) for c in corners} == {
        (a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)
    }
    noise = np.random.default_rng(0).standard_normal(image.shape)
    many = choose_landmarks(noise, np.ones_like(image, bool), (1.0, 1.0, 1.0), 100)
    apart = np.linalg.norm(many[:, None] - many[None], axis=-1) + 99 * np.eye(100)
    assert apart.min() > 4
    few = np.zeros_like(image, bool)
    few[5, 5, 5:9] = True
    assert len(choose_landmarks(noise, few, (1.0, 1.0, 1.0), 100)) == 4
