"""The Learn2Reg reader on generated data sets, paired and unpaired, and listings that lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from regtool.data.cases import only
from regtool.data.learn2reg import read_learn2reg
from regtool.data.loading import load_image, load_points
from regtool.data.readers import open_data
from regtool.engine.cohort.run import open_cohort, run_cohort
from regtool.engine.request import Request
from regtool.engine.training.dataset import prepare_cases
from regtool.errors import InputError, UsageError
from regtool.prepare.preparation import Preparation

SPACING = (2.0, 1.5, 1.0)
SIZE = (12, 14, 16)


def listed(root: Path, **content: Any) -> Path:
    root.mkdir(exist_ok=True)
    (root / "OASIS_dataset.json").write_text(json.dumps({"name": "OASIS", **content}))
    return root


def unpaired(root: Path, count: int = 8) -> Path:
    """Learn2Reg's OASIS in small: the last two scans validate, and one test pair is not there."""
    names = [f"OASIS_{number:04d}_0000.nii.gz" for number in range(1, count + 1)]
    for folder in ("imagesTr", "labelsTr", "masksTr"):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).touch()
    return listed(
        root,
        modality={"0": "MR"},
        training=[
            {
                "image": f"./imagesTr/{name}",
                "label": f"./labelsTr/{name}",
                "mask": f"./masksTr/{name}",
            }
            for name in names
        ],
        registration_val=[
            {"fixed": f"./imagesTr/{names[-2]}", "moving": f"./imagesTr/{names[-1]}"}
        ],
        registration_test=[
            {
                "fixed": "./imagesTs/OASIS_0415_0000.nii.gz",
                "moving": "./imagesTs/OASIS_0416_0000.nii.gz",
            }
        ],
    )


def lungs(root: Path, count: int = 3) -> Path:
    """Learn2Reg's NLST in small: exhale (0000) and inhale (0001), keypoints as voxels."""
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = (5, 7, -9)
    for folder in ("imagesTr", "masksTr", "keypointsTr"):
        (root / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(1, count + 1):
        for phase in (0, 1):
            stem = f"NLST_{number:04d}_{phase:04d}"
            points = generator.integers(1, 11, (5, 3)) + 0.0
            image = np.zeros(SIZE, np.float32)
            image[tuple(points.astype(int).T)] = 100
            nib.save(nib.Nifti1Image(image, affine), root / "imagesTr" / f"{stem}.nii.gz")
            nib.save(nib.Nifti1Image(image + 1, affine), root / "masksTr" / f"{stem}.nii.gz")
            np.savetxt(root / "keypointsTr" / f"{stem}.csv", points, delimiter=",")
    pairs = [
        {
            "fixed": f"./imagesTr/NLST_{number:04d}_0000.nii.gz",
            "moving": f"./imagesTr/NLST_{number:04d}_0001.nii.gz",
        }
        for number in range(1, count + 1)
    ]
    content = {"training_paired_images": pairs, "registration_val": pairs[-1:]}
    (root / "NLST_dataset.json").write_text(
        json.dumps({**content, "modality": {"0": "CT", "1": "CT"}})
    )
    return root


@pytest.mark.parametrize("reader", ["oasis", "learn2reg"])
def test_validation_scans_do_not_train(tmp_path: Path, reader: str) -> None:
    root = unpaired(tmp_path / "OASIS")
    pairs = open_data(f"{reader}:{root}?n=all")
    train, val = only(pairs, "train"), only(pairs, "val")
    assert len(train) == 15 and len(train) + len(val) == len(pairs)
    images = {end.image.name for p in train for end in (p.fixed, p.moving)}
    assert images == {f"OASIS_{number:04d}_0000.nii.gz" for number in range(1, 7)}
    (only_val,) = val
    assert only_val.name == "OASIS_0008_0000_to_OASIS_0007_0000"
    assert only_val.fixed.labels == root / "labelsTr" / "OASIS_0007_0000.nii.gz"
    assert only_val.fixed.image.is_file() and only_val.fixed.mask is None
    assert (only_val.subject, only_val.fixed.modality) == ("OASIS_0007", "mr")


def test_oasis_settings_reach_the_listing(tmp_path: Path) -> None:
    root = unpaired(tmp_path / "OASIS")
    assert len(open_data(f"oasis:{root}?n=4&split=train")) == 4
    assert open_data(f"oasis:{root}?labels=none")[0].fixed.labels is None
    with pytest.raises(UsageError, match="Learn2Reg's OASIS has no tissues"):
        open_data(f"oasis:{root}?labels=tissues")


def test_test_pairs_that_are_there(tmp_path: Path) -> None:
    root = unpaired(tmp_path / "OASIS")
    (root / "imagesTs").mkdir()
    for number in (415, 416):
        (root / "imagesTs" / f"OASIS_0{number}_0000.nii.gz").touch()
    (pair,) = only(read_learn2reg(root), "test")
    assert pair.name == "OASIS_0416_0000_to_OASIS_0415_0000" and pair.fixed.labels is None


def test_scans_without_any_pairs_are_split(tmp_path: Path) -> None:
    root = unpaired(tmp_path / "OASIS", 10)
    listing = root / "OASIS_dataset.json"
    content = json.loads(listing.read_text())
    listing.write_text(json.dumps({"training": content["training"]}))
    pairs = read_learn2reg(listing)
    train, val = only(pairs, "train"), only(pairs, "val")
    assert (len(train), len(val)) == (9 * 8 // 2, 9)
    assert not {p.subject for p in train} & {p.subject for p in val}


def test_given_pairs_with_keypoints(tmp_path: Path) -> None:
    pairs = open_data(f"learn2reg:{lungs(tmp_path / 'NLST')}?masks=yes")
    train, val = only(pairs, "train"), only(pairs, "val")
    assert sorted(p.subject for p in train) == ["NLST_0001", "NLST_0002"]
    assert [p.subject for p in val] == ["NLST_0003"]  # it is in the list of training pairs, too
    case = val[0].fixed
    assert case.mask == case.image.parent.parent / "masksTr" / "NLST_0003_0000.nii.gz"
    assert case.modality == "ct"
    image = load_image(case)
    points = load_points(case, image)
    assert points is not None and points.shape == (5, 3)
    # Independent of regtool's grids: nibabel's RAS matrix on the voxels of the file.
    voxels = np.loadtxt(case.points, delimiter=",")
    ras = nib.affines.apply_affine(nib.load(case.image).affine, voxels)
    assert np.allclose(points, ras * (-1, -1, 1), atol=1e-4)
    store = prepare_cases(
        [val[0]], Preparation(spacing=(None,) * 3, size=(None,) * 3, intensity=(), multiple=1)
    )
    sample = store.items[0].fixed
    assert sample.points is not None
    index = sample.points.round().long()
    assert (sample.image[0][tuple(index.T)] == 1).all() and sample.image.mean() < 0.01


def test_copies_for_what_reads_files(tmp_path: Path) -> None:
    root, copies = lungs(tmp_path / "NLST"), tmp_path / "copies"
    plain = read_learn2reg(f"{root}?split=val")[0]
    assert not plain.fixed.ordinary
    assert read_learn2reg(f"{root}?split=val&points=none")[0].fixed.ordinary
    (copied,) = read_learn2reg(f"{root}?split=val&nifti={copies}")
    assert copied.fixed.ordinary and copied.fixed.image == plain.fixed.image
    assert copied.fixed.points == copies / "NLST_0003_0000_landmarks.csv"
    image = load_image(plain.fixed)
    one, other = load_points(plain.fixed, image), load_points(copied.fixed, image)
    assert one is not None and other is not None and np.allclose(one, other)
    stamp = copied.fixed.points.stat().st_mtime_ns
    read_learn2reg(f"{root}?split=val&nifti={copies}")
    assert copied.fixed.points.stat().st_mtime_ns == stamp  # it is made once
    assert plain.fixed.points is not None
    np.savetxt(plain.fixed.points, np.ones((7, 3)), delimiter=",")
    read_learn2reg(f"{root}?split=val&nifti={copies}")
    changed = load_points(copied.fixed, image)
    assert changed is not None and len(changed) == 7  # and anew when its source has changed


def test_a_cohort_wants_files_and_gets_them(tmp_path: Path) -> None:
    root, out = lungs(tmp_path / "NLST", 2), tmp_path / "out"
    template = Request("", "", "rigid", output="")
    found = run_cohort(open_cohort(f"learn2reg:{root}?split=val", out, template))
    assert found["done"] == 0 and "?nifti=FOLDER" in found["failed"][0]["error"]
    spec = f"learn2reg:{root}?split=val&nifti={tmp_path / 'copies'}"
    found = run_cohort(open_cohort(spec, out, template))
    assert (found["done"], found["failed"]) == (1, [])
    record = json.loads((out / "NLST_0002_0001_to_NLST_0002_0000_regtool.json").read_text())
    one, other = (
        np.loadtxt(root / "keypointsTr" / f"NLST_0002_{phase}.csv", delimiter=",")
        for phase in ("0000", "0001")
    )
    expected = np.linalg.norm((one - other) * SPACING, axis=1).mean()
    assert record["tre_mm"]["before"]["mean"] == pytest.approx(expected, abs=1e-3)
    assert run_cohort(open_cohort(spec, out, template))["skipped"] == 1  # the copies are kept


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"image": "../../secret.nii.gz"}, "lies outside"),
        ({"image": "/etc/passwd"}, "lies outside"),
        ({"image": "..\\..\\secret.nii.gz"}, "lies outside"),
        ({"image": "./imagesTr/absent.nii.gz"}, "training, entry 1: no such file"),
        ({"image": 7}, "expected the path of a file, found '7'"),
        ({}, "expected the path of a file"),
        ({"image": "imagesTr/a\u0000b.nii.gz"}, "expected the path of a file"),
        ({"image": "imagesTr/a\u001b[31m.nii.gz"}, "expected the path of a file"),
        ([], "entry 1: expected an object"),
    ],
)
def test_entries_that_are_refused(tmp_path: Path, entry: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_learn2reg(listed(tmp_path / "OASIS", training=[entry]))
    assert str(caught.value).isprintable()


def test_listings_that_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "OASIS"
    with pytest.raises(InputError, match="no such file"):
        read_learn2reg(root)
    root.mkdir()
    with pytest.raises(InputError, match=r"expected one file such as OASIS_dataset\.json"):
        read_learn2reg(root)
    listing = root / "OASIS_dataset.json"
    for text, says in (
        ("{", "not readable as JSON"),
        ("[" * 100_000, "nested too deeply|not readable"),
        ("[1]", "not a listing"),
        ('{"training": {}}', "training is not a list"),
    ):
        listing.write_text(text)
        with pytest.raises(InputError, match=says):
            read_learn2reg(root)
    name = "./imagesTr/OASIS_0001_0000.nii.gz"
    (root / "imagesTr").mkdir()
    (root / name).touch()
    listed(root, training=[{"image": name}, {"image": name}])
    with pytest.raises(InputError, match="entry 2: OASIS_0001_0000 is listed a second time"):
        read_learn2reg(root)
    listed(root, registration_val=[{"fixed": name, "moving": "./imagesTr/absent.nii.gz"}])
    with pytest.raises(InputError, match="registration_val, entry 1: no such file"):
        read_learn2reg(root)
    (root / "other_dataset.json").write_text("{}")
    with pytest.raises(InputError, match=r"found OASIS_dataset\.json, other_dataset\.json"):
        read_learn2reg(root)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1,2", "line 2: expected x y z in voxels, found '1,2'"),
        ("a,b,c", "line 2: expected x y z in voxels"),
        ("1,2,nan", "line 2: 1 2 nan is outside the image"),
        ("12,0,0", "counted from 0 to 11 13 15"),
        ("-1,0,0", "line 2: -1 0 0 is outside"),
    ],
)
def test_keypoints_that_are_refused(tmp_path: Path, line: str, says: str) -> None:
    root = lungs(tmp_path / "NLST", 1)
    case = read_learn2reg(root)[0].fixed
    assert case.points is not None
    case.points.write_text(f"1,2,3\n{line}\n")
    with pytest.raises(InputError, match=says):
        load_points(case, load_image(case))
