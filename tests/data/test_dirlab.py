"""The DIR-Lab reader on generated files of its sizes, names and landmark distances."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from regtool.data.cases import only
from regtool.data.dirlab import INITIAL, SLICES, form, read_dirlab
from regtool.data.loading import load_image, load_points
from regtool.data.readers import open_data
from regtool.errors import InputError, UsageError
from regtool.imaging.points import read_points
from regtool.imaging.reading import read_image

Voxels = NDArray[np.int64]
VOLUME = {case: 2 * (256 if case <= 5 else 512) ** 2 * SLICES[case - 1] for case in range(1, 11)}


def landmarks(case: int) -> tuple[Voxels, Voxels]:
    """300 voxels of T00 and of T50, counted from 1, as far apart on average as published."""
    raw = form(case)
    generator = np.random.default_rng(case)
    size, spacing = np.array(raw.size), np.array(raw.spacing)
    fixed = generator.integers(size // 4, size - size // 4, (300, 3))
    directions = generator.normal(size=(300, 3)) * (0.3, 0.3, 1)

    def moved(length: float) -> Voxels:
        return fixed + np.rint(directions * length / spacing).astype(int)

    def mean(length: float) -> float:
        return float(np.linalg.norm((moved(length) - fixed) * spacing, axis=1).mean())

    low, high = 0.0, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < INITIAL[case - 1] else (low, middle)
    return fixed, moved(high)


def names(case: int) -> tuple[str, str, str]:
    """Folder, image and landmarks of a case, with {} for the phase, as the downloads have them."""
    if case <= 5:
        suffix = "_s" if case == 1 else "-ssm"
        return (
            f"Case{case}Pack",
            f"Images/case{case}_T{{}}{suffix}.img",
            f"ExtremePhases/Case{case}_300_T{{}}_xyz.txt",
        )
    folder = "Case8Deploy" if case == 8 else f"Case{case}Pack"
    return (
        folder,
        f"Images/case{case}_T{{}}.img",
        f"extremePhases/case{case}_dirLab300_T{{}}_xyz.txt",
    )


def write(root: Path, case: int, separator: str = "\t") -> Path:
    """A case's folder; its images are holes of the right size, which the disk does not notice."""
    folder, image, points = names(case)
    for phase, voxels in zip(("00", "50"), landmarks(case), strict=True):
        path = root / folder / image.format(phase)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(VOLUME[case])
        text = root / folder / points.format(phase)
        text.parent.mkdir(exist_ok=True)
        lines = [separator.join(str(v) for v in voxel) + separator for voxel in voxels]
        text.write_text("\r\n".join(lines) + "\r\n")
    (root / folder / "Images" / f"case{case}_T10.img").touch()
    (root / folder / "Sampled4D").mkdir()
    (root / folder / "Sampled4D" / f"case{case}_4D-75_T00.txt").touch()
    return root


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("DIRLAB") / "4DCT"
    for case in range(1, 11):
        write(root, case, "\t" if case % 2 else "   ")
    return root


def test_ten_cases_whose_landmarks_pass_the_check(
    ten: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = open_data(f"dirlab:{ten}")
    assert not caplog.records
    assert [p.name for p in pairs] == [f"case{number:02d}" for number in range(1, 11)]
    assert {p.split for p in pairs} == {"test"}
    for number, pair in enumerate(pairs, 1):
        assert "T00" in pair.fixed.image.name and "T50" in pair.moving.image.name
        assert pair.fixed.points is not None and "T00" in pair.fixed.points.name
        assert pair.fixed.stored == form(number) and pair.fixed.modality == "ct"
    assert open_data(f"dirlab:{ten.parent}") == pairs  # from a folder above
    assert open_data(f"dirlab:{ten / 'Case8Deploy'}") == [pairs[7]]  # and from one within


def test_training_without_a_fold_says_how_to_name_one(ten: Path) -> None:
    from regtool.engine.training.dataset import open_splits

    message = r"no pairs of the split 'train' \(10 of 'test'\); name a fold: dirlab:.*4DCT\?fold=1"
    with pytest.raises(InputError, match=message):
        open_splits([f"dirlab:{ten}"], None)
    with pytest.raises(InputError, match=r"split=test&fold=1"):
        open_splits([f"dirlab:{ten}?split=test"], None)
    assert len(open_splits([f"dirlab:{ten}?fold=1"], None)[0]) == 6


def test_folds_keep_cases_apart(ten: Path) -> None:
    tested: Counter[str] = Counter()
    for fold in range(1, 6):
        pairs = read_dirlab(f"{ten}?fold={fold}")
        assert Counter(p.split for p in pairs) == {"train": 6, "val": 2, "test": 2}
        tested.update(p.name for p in only(pairs, "test"))
    assert set(tested.values()) == {1} and len(tested) == 10
    pairs = read_dirlab(f"{ten}?fold=10&folds=10")
    assert [p.name for p in only(pairs, "test")] == ["case10"]
    assert [p.name for p in only(pairs, "val")] == ["case01"]
    assert [p.name for p in read_dirlab(f"{ten}?fold=1&split=val")] == ["case02", "case07"]
    for query in ("fold=6", "fold=0", "folds=11&fold=1", "folds=2"):
        with pytest.raises(UsageError, match=r"folds of 10 cases|a whole number from"):
            read_dirlab(f"{ten}?{query}")


def test_voxels_values_and_landmarks_fit_together(tmp_path: Path) -> None:
    root = write(tmp_path, 1)
    path = root / "Case1Pack" / "Images" / "case1_T00_s.img"
    fixed, _ = landmarks(1)
    stored = np.zeros((94, 256, 256), "<i2")
    for number, (x, y, z) in enumerate(fixed):
        stored[z - 1, y - 1, x - 1] = 1024 + number
    stored[0, 0, 0], stored[0, 0, 1] = -2000, 4095
    stored.tofile(path)
    (pair,) = read_dirlab(root)
    image = load_image(pair.fixed)
    assert image.array.dtype == np.int16 and image.grid.size == (256, 256, 94)
    assert image.grid.spacing == (0.97, 0.97, 2.5)
    assert image.array[0, 0, 0] == -1024 and image.array[0, 0, 1] == 3071  # HU
    points = load_points(pair.fixed, image)
    assert points is not None
    index = points @ image.grid.world_to_index[:3, :3].T + image.grid.world_to_index[:3, 3]
    found = image.array[tuple(np.rint(index[:, ::-1]).astype(int).T)]
    last = {tuple(voxel): number for number, voxel in enumerate(fixed)}  # two may share a voxel
    assert found.tolist() == [last[tuple(voxel)] for voxel in fixed]
    # Towards the feet z falls in LPS, and towards the back y rises.
    assert np.allclose(points[:, 2], -(fixed[:, 2] - 1) * 2.5)
    assert np.allclose(points[:, 1], (fixed[:, 1] - 1) * 0.97)
    other = load_points(pair.moving, load_image(pair.moving))
    assert other is not None
    assert np.linalg.norm(points - other, axis=1).mean() == pytest.approx(3.89, abs=0.02)
    assert load_image(read_dirlab(f"{root}?offset=0")[0].fixed).array[0, 0, 1] == 4095


def test_copies_for_what_reads_files(tmp_path: Path) -> None:
    root, copies = write(tmp_path / "DIRLAB", 1), tmp_path / "nifti"
    (plain,) = open_data(f"dirlab:{root}")
    (pair,) = open_data(f"dirlab:{root}?nifti={copies}")
    assert pair.fixed.ordinary
    one, other = read_image(pair.fixed.image), load_image(plain.fixed)
    assert one.grid.same_as(other.grid) and np.array_equal(one.array, other.array)
    assert one.dtype == np.int16
    points, expected = read_points(str(pair.fixed.points)), load_points(plain.fixed, other)
    assert expected is not None and np.allclose(points.points, expected)
    stamp = pair.fixed.image.stat().st_mtime_ns
    assert open_data(f"dirlab:{root}?nifti={copies}") == [pair]
    assert pair.fixed.image.stat().st_mtime_ns == stamp


def changed(tmp_path: Path, case: int = 2) -> tuple[Path, Path]:
    folder, _, points = names(case)
    root = write(tmp_path / "DIRLAB", case)
    return root, root / folder / points.format("00")


def test_landmarks_of_another_case_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, path = changed(tmp_path)
    np.savetxt(path, landmarks(3)[0], "%d")
    with pytest.raises(InputError, match=r"those of case 2 are 300 and 4\.34 mm; are they of"):
        read_dirlab(root)
    with caplog.at_level(logging.WARNING):
        assert len(read_dirlab(f"{root}?check=warn")) == 1
    assert "4.34 mm" in caplog.text


def test_landmarks_in_another_order_are_refused(tmp_path: Path) -> None:
    root, path = changed(tmp_path)
    for file in (path, path.with_name(path.name.replace("T00", "T50"))):
        np.savetxt(file, np.minimum(np.loadtxt(file)[:, ::-1], 112), "%d")
    with pytest.raises(InputError, match="mm apart on average"):
        read_dirlab(root)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("\n\n", "no landmarks in the file"),
        ("1 2\n", "line 1: expected x y z in voxels, found '1 2'"),
        ("1 2 3\nx y z\n", "line 2: expected x y z"),
        ("0 5 5\n", "line 1: 0 5 5 is outside the image, whose voxels are counted from 1 to"),
        ("5 5 113\n", "counted from 1 to 256 256 112"),
        ("1 2 inf\n", "line 1: 1 2 inf is outside"),
        ("1 2 3\n", "300 landmarks, but Case2_300_T00_xyz.txt has 1"),
        ("\x00\x01\x02", "expected x y z"),
    ],
)
def test_landmark_files_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    root, path = changed(tmp_path)
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_dirlab(root)
    assert str(caught.value).isprintable()


def test_images_without_landmarks_are_pairs_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, path = changed(tmp_path)
    path.unlink()
    with caplog.at_level(logging.WARNING):
        (pair,) = read_dirlab(root)
    assert pair.fixed.points is None and "case 2: no landmarks" in caplog.text


def test_images_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_dirlab(tmp_path / "absent")
    with pytest.raises(InputError, match="no images such as Case1Pack"):
        read_dirlab(tmp_path)
    root = write(tmp_path / "DIRLAB", 2)
    image = root / "Case2Pack" / "Images" / "case2_T50-ssm.img"
    with image.open("r+b") as stream:
        stream.truncate(VOLUME[3])
    with pytest.raises(InputError, match="13631488 bytes, but 256×256×112 voxels of 16 bits need"):
        read_dirlab(root)
    copy = root / "again" / "CASE2_t50.IMG"
    copy.parent.mkdir()
    copy.touch()
    with pytest.raises(InputError, match=r"the same file as .*Leave one of them"):
        read_dirlab(root)
    copy.unlink()
    image.unlink()
    with pytest.raises(InputError, match="case 2 has no image of T50"):
        read_dirlab(root)
