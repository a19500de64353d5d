"""The IXI reader on generated files of both its forms."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pickle_cases import brain_arrays, dump

from regtool.data.cases import only
from regtool.data.ixi import read_ixi
from regtool.data.loading import load_image, load_labels
from regtool.data.readers import open_data
from regtool.engine.training.dataset import open_splits, prepare_cases
from regtool.errors import InputError, UsageError
from regtool.imaging.reading import read_image, read_labels
from regtool.prepare.preparation import Preparation

PREPARATION = Preparation(spacing=(1.0, 1.0, 1.0), size=(16, 16, 16))


def transmorph(root: Path, atlas: str = "atlas.pkl") -> Path:
    """TransMorph's distribution in small: 4 training scans, 2 validation and 3 test scans."""
    for number in range(9):
        folder = "Train" if number < 4 else "Val" if number < 6 else "Test"
        dump(root / folder / f"subject_{number}.pkl", *brain_arrays(number))
    dump(root / atlas, *brain_arrays(99))
    return root


def site(root: Path, people: int = 10, folders: bool = True) -> Path:
    """The site's files, empty; the last person has no T2."""
    for number in range(people):
        for contrast in ("T1", "T2", "PD") if number < people - 1 else ("T1",):
            place = root / f"IXI-{contrast}" if folders else root
            place.mkdir(parents=True, exist_ok=True)
            (place / f"IXI{number + 12:03d}-HH-{1211 + number}-{contrast}.nii.gz").touch()
    return root


@pytest.mark.parametrize("atlas", ["atlas.pkl", "altas.pkl", "Atlas/atlas.pkl"])
def test_the_atlas_moves_to_every_scan(tmp_path: Path, atlas: str) -> None:
    root = transmorph(tmp_path / "IXI_data", atlas)
    pairs = read_ixi(root)
    assert Counter(p.split for p in pairs) == {"train": 4, "val": 2, "test": 3}
    assert {p.moving.image for p in pairs} == {root / atlas}
    assert {p.fixed.image.name for p in only(pairs, "test")} == {
        f"subject_{number}.pkl" for number in (6, 7, 8)
    }
    assert all(p.name == f"{p.moving.image.stem}_to_{p.subject}" for p in pairs)
    few = open_data(f"ixi:{root}?n=2&val=1&test=1")
    assert Counter(p.split for p in few) == {"train": 2, "val": 1, "test": 1}
    assert {p.split for p in open_data(f"ixi:{root}?split=test")} == {"test"}


def test_scans_meet_within_their_split(tmp_path: Path) -> None:
    root = transmorph(tmp_path)
    pairs = open_data(f"ixi:{root}?pairs=random&n=5")
    assert Counter(p.split for p in pairs) == {"train": 5, "val": 1, "test": 3}
    assert all(p.fixed.image.parent == p.moving.image.parent for p in pairs)
    (root / "atlas.pkl").unlink()
    assert open_data(f"ixi:{root}?pairs=random&n=5") == pairs
    with pytest.raises(InputError, match="0 atlases"):
        read_ixi(root)


def test_the_grid_is_that_of_freesurfer(tmp_path: Path) -> None:
    pair = read_ixi(transmorph(tmp_path))[0]
    image, labels = brain_arrays(int(pair.subject.removeprefix("subject_")))
    found = load_image(pair.fixed)
    # What nibabel writes with FreeSurfer's axes (left, inferior, anterior) must read the same.
    lia = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    assert nib.aff2axcodes(lia) == ("L", "I", "A")
    nib.save(nib.Nifti1Image(image, lia), tmp_path / "same.nii.gz")
    same = read_image(tmp_path / "same.nii.gz")
    assert same.grid.same_as(found.grid) and np.array_equal(same.array, found.array)
    assert found.grid.size == image.shape and found.array.dtype == np.float32
    found_labels = load_labels(pair.fixed, found)
    assert found_labels is not None and np.array_equal(found_labels.array, labels.T)
    assert found_labels.array.dtype.kind in "iu"


def test_pickles_become_training_pairs(tmp_path: Path) -> None:
    train, val = open_splits([f"ixi:{transmorph(tmp_path)}"], None)
    store = prepare_cases(train + val, PREPARATION)
    assert len(store.items) == 6
    sample = store.items[0].fixed
    assert sample.labels is not None and set(sample.labels.unique().tolist()) == {0, 1, 2, 3}
    assert sample.image.max() == 1


def test_labels_can_be_left_out(tmp_path: Path) -> None:
    root = transmorph(tmp_path)
    for path in root.rglob("*.pkl"):
        path.write_bytes(pickle.dumps(brain_arrays(0)[0]))
    (case, *_) = [p.fixed for p in read_ixi(f"{root}?labels=none")]
    assert load_labels(case, load_image(case)) is None
    (case, *_) = [p.fixed for p in read_ixi(root)]
    with pytest.raises(InputError, match=r"an image without labels; \?labels=none"):
        load_labels(case, load_image(case))


def test_copies_for_what_reads_files(tmp_path: Path) -> None:
    root, copies = transmorph(tmp_path / "IXI_data"), tmp_path / "nifti"
    dump(root / "Val" / "atlas.pkl", *brain_arrays(4))  # the same name as the atlas's
    pairs = open_data(f"ixi:{root}?split=val&nifti={copies}")
    plain = open_data(f"ixi:{root}?split=val")
    assert {p.moving.image.name for p in pairs} == {"IXI_data_atlas.nii.gz"}
    assert "Val_atlas.nii.gz" in {p.fixed.image.name for p in pairs}
    for copied, given in zip(pairs, plain, strict=True):
        assert copied.fixed.ordinary and not given.fixed.ordinary
        one, other = read_image(copied.fixed.image), load_image(given.fixed)
        assert one.grid.same_as(other.grid) and np.array_equal(one.array, other.array)
        labels = load_labels(given.fixed, other)
        assert copied.fixed.labels is not None and labels is not None
        assert np.array_equal(read_labels(copied.fixed.labels).array, labels.array)
    names = {p.name for p in copies.iterdir()}
    assert len(names) == 2 * 4 + 1 and not any(name.startswith(".") for name in names)


class Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("attacked",)


def test_an_attack_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = transmorph(tmp_path / "IXI_data")
    path = root / "Train" / "subject_0.pkl"
    path.write_bytes(pickle.dumps((*brain_arrays(0), Attack())))
    case = next(p.fixed for p in read_ixi(root) if p.subject == "subject_0")
    with pytest.raises(InputError, match="nothing in them is run") as caught:
        load_image(case)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ((np.zeros((4, 5)), np.zeros((4, 5))), "expected the arrays of a volume and its labels"),
        ((np.zeros((4, 5, 6)),) * 3, "found 4×5×6, 4×5×6, 4×5×6"),
        ((np.zeros((4, 5, 6)), np.zeros((4, 6, 5))), "has 4×5×6 voxels, but its labels 4×6×5"),
        ((np.zeros((4, 5, 6)), np.full((4, 5, 6), 0.5)), "not a label map"),
    ],
)
def test_arrays_that_are_no_scan(tmp_path: Path, arrays: tuple[np.ndarray, ...], says: str) -> None:
    root = transmorph(tmp_path)
    dump(root / "Train" / "subject_0.pkl", *arrays)
    case = next(p.fixed for p in read_ixi(root) if p.subject == "subject_0")
    with pytest.raises(InputError, match=says):
        load_labels(case, load_image(case))


def test_odd_values(tmp_path: Path) -> None:
    image, labels = brain_arrays(3)
    image[0, 0, 0] = np.nan
    root = transmorph(tmp_path)
    dump(root / "Train" / "subject_3.pkl", image.astype(np.float16), labels > 0)
    case = next(p.fixed for p in read_ixi(root) if p.subject == "subject_3")
    found = load_image(case)
    assert found.array.dtype == np.float32 and found.header.nonfinite == 1 and found.warnings
    parts = load_labels(case, found)
    assert parts is not None and parts.array.dtype == np.uint8 and parts.array.max() == 1


# -- the site's form ---------------------------------------------------------------------------


@pytest.mark.parametrize("folders", [True, False])
def test_two_images_of_one_person(tmp_path: Path, folders: bool) -> None:
    pairs = read_ixi(f"{site(tmp_path, 11, folders)}?images=T1-T2")
    assert Counter(p.split for p in pairs) == {"train": 7, "val": 1, "test": 2}
    for pair in pairs:
        assert pair.name == f"{pair.subject}-T2_to_{pair.subject}-T1"
        assert pair.fixed.image.name.startswith(pair.subject)
        assert pair.moving.image.name == pair.fixed.image.name.replace("-T1", "-T2")
        assert pair.fixed.ordinary and pair.fixed.labels is None


def test_two_people(tmp_path: Path) -> None:
    root = site(tmp_path)
    for images, people in (("T1", 10), ("T2-T1", 9)):
        pairs = read_ixi(f"{root}?images={images}&pairs=random&n=all&val=all")
        ends = [(p.fixed.image.name[:6], p.moving.image.name[:6]) for p in pairs]
        assert all(one != other for one, other in ends)
        train = only(pairs, "train")
        assert len(train) == (people - 3) * (people - 4) // 2
        splits = {person: p.split for p, end in zip(pairs, ends, strict=True) for person in end}
        assert all({splits[one], splits[other]} == {splits[one]} for one, other in ends)
        fixed, _, moving = images.partition("-")
        assert {p.fixed.image.name[-9:-7] for p in pairs} == {fixed}
        assert {p.moving.image.name[-9:-7] for p in pairs} == {moving or fixed}
    assert read_ixi(root) == read_ixi(f"{root}?images=T1&pairs=random")


def test_settings_and_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_ixi(tmp_path / "absent")
    with pytest.raises(InputError, match="nobody with T1 here"):
        read_ixi(tmp_path)
    files = site(tmp_path / "site")
    pickles = transmorph(tmp_path / "pickles")
    for spec, says in (
        (f"{files}?pairs=atlas", "pairs=atlas needs TransMorph's form"),
        (f"{files}?pairs=same", "pairs=same needs two images"),
        (f"{files}?images=MRA", "images=MRA: use T1, T2, PD, T1-T1"),
        (f"{files}?pairs=", "pairs=: use atlas, random, same"),
        (f"{files}?nifti=", "nifti=: use the path of a folder"),
        (f"{pickles}?pairs=same", "one T1 scan a person"),
        (f"{pickles}?images=T1-T2", "one T1 scan a person"),
    ):
        with pytest.raises(UsageError, match=says):
            read_ixi(spec)
    (files / "IXI012-HH-1211-T1.nii.gz").touch()
    with pytest.raises(InputError, match="IXI012 has another T1"):
        read_ixi(files)
    dump(pickles / "Val" / "subject_0.pkl", *brain_arrays(0))
    with pytest.raises(InputError, match="is also at"):
        read_ixi(pickles)
