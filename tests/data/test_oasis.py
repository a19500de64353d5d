"""The OASIS reader on generated files of its forms, and on the real scans where they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from regtool.data.cases import only
from regtool.data.loading import load_image, load_labels
from regtool.data.oasis import read_oasis
from regtool.data.readers import open_data
from regtool.engine.training.dataset import open_splits, prepare_cases
from regtool.errors import InputError, UsageError
from regtool.prepare.preparation import Preparation

NUMBERS = ("1000", "1001", "1002", "1006", "1017", "1036")


def brain(path: Path, seed: int, kind: str) -> None:
    """A ball in three shells, at its own place, as an image or as labels of its shells."""
    z, y, x = np.mgrid[:14, :16, :12]
    labels = np.digitize(-np.hypot(np.hypot(z - 7, y - 8), x - 5 - seed % 3), (-6, -4, -2))
    noise = np.random.default_rng(seed).integers(0, 20, labels.shape)
    values = labels if kind == "labels" else np.where(labels > 0, 100 * labels + noise, 0)
    affine = np.array([[-1.0, 0, 0, -1], [0, 1, 0, -268], [0, 0, 1, -255], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(values.T.astype(np.int16), affine), path)


def miccai(root: Path, numbers: tuple[str, ...] = NUMBERS) -> Path:
    for seed, number in enumerate(numbers):
        (root / number).mkdir(parents=True)
        brain(root / number / "t1.nii.gz", seed, "image")
        for name in ("labels", "tissues"):
            brain(root / number / f"{name}.nii.gz", seed, "labels")
    (root / "label-names.csv").write_text("Label Number,Label Name,Class\n4,3rd Ventricle,CSF\n")
    return root


def test_training_scans_meet_each_other_and_validation_scans_meet_them(tmp_path: Path) -> None:
    pairs = read_oasis(miccai(tmp_path / "oasis"))
    train, val = only(pairs, "train"), only(pairs, "val")
    assert (len(train), len(val), len(pairs)) == (6, 8, 14)
    assert len({pair.name for pair in pairs}) == 14
    ends = [{p.fixed.image.parent.name, p.moving.image.parent.name} for p in train]
    assert all(len(end) == 2 and not end & {"1017", "1036"} for end in ends)
    assert len({frozenset(end) for end in ends}) == 6
    assert {p.fixed.image.parent.name for p in val} == {"1017", "1036"}
    assert {p.moving.image.parent.name for p in val} == set(NUMBERS[:4])
    one = next(p for p in val if p.name == "1001_to_1036")
    assert one.moving.image == tmp_path / "oasis" / "1001" / "t1.nii.gz"
    assert one.fixed.labels == tmp_path / "oasis" / "1036" / "labels.nii.gz"
    assert (one.subject, one.fixed.modality) == ("1036", "mr")


def test_fewer_pairs_use_every_scan_equally(tmp_path: Path) -> None:
    names = (*(str(number) for number in range(1000, 1009)), "1017", "1036")
    root = miccai(tmp_path / "oasis", names)
    pairs = open_data(f"oasis:{root}?n=18&val=4")
    train, val = only(pairs, "train"), only(pairs, "val")
    fixed = Counter(p.fixed.image.parent.name for p in train)
    moving = Counter(p.moving.image.parent.name for p in train)
    assert set(fixed.values()) == set(moving.values()) == {2} and len(fixed) == len(moving) == 9
    assert len({frozenset((p.fixed.image, p.moving.image)) for p in train}) == 18
    assert Counter(p.subject for p in val) == {"1017": 2, "1036": 2}
    assert len({p.moving.image for p in val}) >= 3
    assert pairs == open_data(f"oasis:{root}?n=18&val=4")
    assert pairs != open_data(f"oasis:{root}?n=18&val=4&seed=1")
    every = open_data(f"oasis:{root}?n=all&val=all")
    assert (len(only(every, "train")), len(only(every, "val"))) == (36, 18)


def test_labels_are_structures_tissues_or_none(tmp_path: Path) -> None:
    root = miccai(tmp_path / "oasis")
    for choice, name in (("tissues", "tissues.nii.gz"), ("structures", "labels.nii.gz")):
        labels = read_oasis(f"{root}?labels={choice}")[0].fixed.labels
        assert labels is not None and labels.name == name
    assert read_oasis(f"{root}?labels=none")[0].fixed.labels is None
    (root / "1000" / "tissues.nii.gz").unlink()
    by_name = {p.name: p for p in read_oasis(f"{root}?labels=tissues")}
    assert by_name["1000_to_1017"].moving.labels is None
    assert by_name["1001_to_1017"].moving.labels is not None


def test_neurites_form_splits_by_person(tmp_path: Path) -> None:
    for person in range(1, 11):
        for session in (1, 2):
            folder = tmp_path / f"OASIS_OAS1_{person:04d}_MR{session}"
            folder.mkdir()
            for name in ("aligned_norm", "aligned_seg35", "aligned_seg4", "norm"):
                (folder / f"{name}.nii.gz").touch()
    pairs = read_oasis(f"{tmp_path}?n=all&val=all")
    train, val = only(pairs, "train"), only(pairs, "val")
    held_out = {p.subject for p in val}
    assert len(held_out) == 1 and next(iter(held_out)).startswith("OASIS_OAS1_00")
    assert (len(train), len(val)) == (18 * 17 // 2, 2 * 18)
    assert not held_out & {p.subject for p in train}
    image, labels = val[0].fixed.image, val[0].fixed.labels
    assert image.name == "aligned_norm.nii.gz"
    assert labels is not None and labels.name == "aligned_seg35.nii.gz"


def test_pairs_become_training_pairs(tmp_path: Path) -> None:
    train, val = open_splits([f"oasis:{miccai(tmp_path / 'oasis')}?n=2&val=1"], None)
    case = train[0]
    image = load_image(case.fixed)
    labels = load_labels(case.fixed, image)
    assert labels is not None and labels.grid.same_as(image.grid)
    store = prepare_cases(train + val, Preparation(spacing=(1.0, 1.0, 1.0), size=(16, 16, 16)))
    assert len(store.items) == 3
    item = store.items[0]
    assert item.fixed.labels is not None and int(item.fixed.labels.max()) == 3


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("n=0", "n=0: use all, a whole number from 1"),
        ("n=-3", "use all, a whole number from 1"),
        ("n=12345678901234567890", "use all, a whole number from 1"),
        ("val=many", "val=many: use all"),
        ("labels=lobes", "labels=lobes: use structures, tissues, none"),
        ("size=3", "unknown setting 'size'; use n, val, seed, labels, split"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, query: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_data(f"oasis:{tmp_path}?{query}")


def test_folders_that_hold_no_scans(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_oasis(tmp_path / "absent")
    with pytest.raises(InputError, match=r"0 folders here hold a t1\.nii\.gz"):
        read_oasis(tmp_path)
    miccai(tmp_path, ("1000",))
    with pytest.raises(InputError, match="1 folders here"):
        read_oasis(tmp_path)


def test_real_scans(shared_data: Path) -> None:
    folder = shared_data / "oasis"
    if not folder.is_dir():
        pytest.skip("the OASIS scans are absent")
    pairs = open_data(f"oasis:{folder}")
    train, val = only(pairs, "train"), only(pairs, "val")
    assert (len(train), len(val)) == (13 * 12 // 2, 2 * 13)
    assert {p.subject for p in val} == {"1017", "1036"}
    case = val[0].fixed
    image = load_image(case)
    labels = load_labels(case, image)
    assert labels is not None and labels.grid.same_as(image.grid)
    assert len(np.unique(labels.array)) > 100
