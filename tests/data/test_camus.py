"""The CAMUS reader on both published layouts, down to the prepared pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.data.camus import read_camus
from regtool.data.cases import only
from regtool.data.loading import load_image, load_labels
from regtool.data.readers import open_data
from regtool.engine.training.dataset import prepare_cases
from regtool.errors import InputError, UsageError
from regtool.prepare.preparation import Preparation

SPACING = (0.308, 0.154)
SIZE = (40, 62)
INFO = (
    "ED: 1\nES: 18\nNbFrame: 18\nSex: F\nAge: 56\nImageQuality: {}\nLVedv: 94.1\nLVesv: 43.2\n"
    "LVef: 54.0\n"
)


def heart(phase: str, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (y, x) and its labels: 1 ventricle, 2 myocardium, 3 atrium."""
    width, height = SIZE
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(x - 20, (y - 24) / 1.5)
    inner = 8.0 if phase == "ED" else 6.0
    labels = np.where(radius < inner, 1, np.where(radius < inner + 3, 2, 0))
    labels[(np.hypot(x - 20, y - 50) < 6) & (labels == 0)] = 3
    image = np.choose(labels, [60, 20, 170, 30])
    noise = np.random.default_rng(seed).integers(0, 20, image.shape)
    return (image + noise).astype(np.uint8), labels.astype(np.uint8)


def write(folder: Path, layout: str, labelled: bool = True, quality: str = "Good") -> Path:
    """A patient's folder with both views: 2-D NIfTI or one-slice MetaImage with ``.raw``."""
    folder.mkdir(parents=True)
    for number, view in enumerate(("2CH", "4CH")):
        (folder / f"Info_{view}.cfg").write_text(INFO.format(quality))
        for phase in ("ED", "ES"):
            stem = f"{folder.name}_{view}_{phase}"
            for name, array in zip((stem, f"{stem}_gt"), heart(phase, number), strict=True):
                if name.endswith("_gt") and not labelled:
                    continue
                if layout == "nifti":
                    image = nib.Nifti1Image(array.T, np.diag([-SPACING[0], -SPACING[1], 1, 1]))
                    image.header.set_xyzt_units("mm")
                    nib.save(image, folder / f"{name}.nii.gz")
                else:
                    stored = sitk.GetImageFromArray(array[None])
                    stored.SetSpacing((*SPACING, 1.54))
                    sitk.WriteImage(stored, folder / f"{name}.mhd")
    return folder


def lists(place: Path, **splits: list[str]) -> None:
    place.mkdir(exist_ok=True)
    for name in ("training", "validation", "testing"):
        (place / f"subgroup_{name}.txt").write_text("\n".join(splits.get(name, [])) + "\n")


def empty_patients(place: Path, count: int, first: int = 1) -> list[str]:
    """Patients of empty files: a reader looks at names only."""
    names = [f"patient{number:04d}" for number in range(first, first + count)]
    for name in names:
        (place / name).mkdir(parents=True)
        for view in ("2CH", "4CH"):
            for phase in ("ED", "ES"):
                (place / name / f"{name}_{view}_{phase}.nii.gz").touch()
    return names


@pytest.mark.parametrize("inside", ["", "database_nifti"])
def test_nifti_layout_with_the_official_lists(tmp_path: Path, inside: str) -> None:
    for number in (1, 2, 3):
        write(tmp_path / "database_nifti" / f"patient{number:04d}", "nifti")
    lists(
        tmp_path / "database_split",
        training=["patient0003"], validation=["patient0001"], testing=["patient0002"],
    )  # fmt: skip
    pairs = open_data(f"camus:{tmp_path / inside}")
    assert [p.name for p in pairs[:3]] == ["patient0001_2CH", "patient0001_4CH", "patient0002_2CH"]
    assert [p.split for p in pairs] == ["val", "val", "test", "test", "train", "train"]
    assert pairs[0].subject == pairs[1].subject == "patient0001"
    assert pairs[0].moving.image.name == "patient0001_2CH_ED.nii.gz"
    assert pairs[0].fixed.image.name == "patient0001_2CH_ES.nii.gz"
    assert pairs[1].fixed.labels is not None and pairs[1].fixed.modality == "us"
    assert pairs[1].fixed.labels.name == "patient0001_4CH_ES_gt.nii.gz"


def test_metaimage_layout_with_its_two_folders(tmp_path: Path) -> None:
    write(tmp_path / "training" / "patient0001", "metaimage")
    write(tmp_path / "training" / "patient0002", "metaimage")
    write(tmp_path / "testing" / "patient0001", "metaimage", labelled=False)
    pairs = read_camus(f"{tmp_path}?view=4ch")
    assert [p.name for p in pairs] == [
        "patient0001_4CH", "patient0002_4CH", "testing-patient0001_4CH"
    ]  # fmt: skip
    assert Counter(p.split for p in pairs) == {"train": 1, "val": 1, "test": 1}
    assert pairs[2].split == "test" and pairs[2].fixed.labels is None
    assert pairs[2].fixed.image.parent.parent.name == "testing"
    assert pairs[0].moving.image.name == "patient0001_4CH_ED.mhd"
    (alone,) = read_camus(f"{tmp_path / 'testing'}?view=2CH")
    assert alone.split == "test"


@pytest.mark.parametrize("layout", ["nifti", "metaimage"])
def test_values_spacing_and_prepared_pairs(tmp_path: Path, layout: str) -> None:
    write(tmp_path / "patient0007", layout)
    (pair,) = read_camus(f"{tmp_path}?view=2CH")
    image = load_image(pair.fixed)
    labels = load_labels(pair.fixed, image)
    assert labels is not None
    expected = heart("ES", 0)
    np.testing.assert_array_equal(image.array.reshape(SIZE[::-1]), expected[0])
    np.testing.assert_array_equal(labels.array.reshape(SIZE[::-1]), expected[1])
    np.testing.assert_allclose(image.grid.spacing[:2], SPACING, rtol=1e-6)
    preparation = Preparation(spacing=(0.2, 0.2), size=(64, 64))
    (item,) = prepare_cases([pair], preparation).items
    assert item.fixed.image.shape[-2:] == (64, 64) and item.fixed.labels is not None
    assert set(np.unique(item.fixed.labels.numpy())) == {0, 1, 2, 3}


def test_both_layouts_prepare_to_the_same_pair(tmp_path: Path) -> None:
    items = []
    for layout in ("nifti", "metaimage"):
        write(tmp_path / layout / "patient0001", layout)
        pairs = read_camus(f"{tmp_path / layout}?view=4CH")
        items += prepare_cases(pairs, Preparation(spacing=(0.2, 0.2), size=(64, 64))).items
    np.testing.assert_allclose(items[0].fixed.image, items[1].fixed.image, atol=2e-3)
    np.testing.assert_array_equal(items[0].moving.labels, items[1].moving.labels)


def test_paper_split_is_by_name(tmp_path: Path) -> None:
    names = empty_patients(tmp_path / "database_nifti", 425)
    lists(tmp_path / "database_split", training=names[::-1])
    pairs = read_camus(f"{tmp_path}?split=paper&view=2CH")
    assert Counter(p.split for p in pairs) == {"train": 400, "val": 20, "test": 5}
    assert only(pairs, "val")[0].name == "patient0401_2CH"
    assert {p.split for p in read_camus(f"{tmp_path}?view=2CH")} == {"train"}


def test_without_lists_a_tenth_validates(tmp_path: Path) -> None:
    empty_patients(tmp_path, 20)
    pairs = read_camus(tmp_path)
    assert Counter(p.split for p in pairs) == {"train": 36, "val": 4}
    assert len({p.subject for p in only(pairs, "val")}) == 2


def test_quality_leaves_out_poor_images(tmp_path: Path) -> None:
    for number, quality in enumerate(("Good", "Poor", "Medium"), start=1):
        write(tmp_path / f"patient{number:04d}", "nifti", quality=quality)
    (tmp_path / "patient0003" / "Info_4CH.cfg").write_text(INFO.format("Poor"))
    assert len(read_camus(tmp_path)) == 6
    kept = [p.name for p in read_camus(f"{tmp_path}?quality=medium")]
    assert kept == ["patient0001_2CH", "patient0001_4CH", "patient0003_2CH"]
    assert len(read_camus(f"{tmp_path}?quality=good")) == 2
    with pytest.raises(InputError, match="no pairs found"):
        (tmp_path / "patient0001" / "Info_2CH.cfg").write_text(INFO.format("Poor"))
        open_data(f"camus:{tmp_path}?quality=good&view=2CH")


def test_unknown_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown setting 'veiw'; use view, quality, split"):
        read_camus(f"{tmp_path}?veiw=4CH")
    with pytest.raises(UsageError, match="view=3CH: use 2CH, 4CH, both"):
        read_camus(f"{tmp_path}?view=3CH")


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_camus(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no patientNNNN folders"):
        read_camus(tmp_path)
    folder = write(tmp_path / "patient0001", "nifti")
    (folder / "patient0001_4CH_ES.nii.gz").unlink()
    with pytest.raises(InputError, match=r"patient0001_4CH_ES.*is missing; \?view=2CH"):
        read_camus(tmp_path)
    assert len(read_camus(f"{tmp_path}?view=2CH")) == 1
    (folder / "Info_2CH.cfg").write_text("ED: 1\n")
    with pytest.raises(InputError, match=r"Info_2CH\.cfg: no line 'ImageQuality"):
        read_camus(f"{tmp_path}?view=2CH&quality=good")
    (folder / "Info_2CH.cfg").unlink()
    with pytest.raises(InputError, match=r"Info_2CH\.cfg: cannot be read"):
        read_camus(f"{tmp_path}?view=2CH&quality=good")


def test_bad_lists_are_named(tmp_path: Path) -> None:
    write(tmp_path / "database_nifti" / "patient0001", "nifti")
    place = tmp_path / "database_split"
    lists(place, training=["patient0001"], testing=["patient0001"])
    with pytest.raises(InputError, match=r"subgroup_testing\.txt: patient0001 is in another list"):
        read_camus(tmp_path)
    lists(place, training=["patient0002"])
    with pytest.raises(InputError, match="patient0001 is in none of subgroup_training"):
        read_camus(tmp_path)
    lists(place, training=["1"])
    with pytest.raises(InputError, match=r"subgroup_training\.txt: expected patients such as"):
        read_camus(tmp_path)
    (place / "subgroup_training.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as a list"):
        read_camus(tmp_path)


def test_same_patient_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "training" / "patient0001", "metaimage")
    write(tmp_path / "database_nifti" / "patient0001", "nifti")
    with pytest.raises(InputError, match="also at"):
        read_camus(tmp_path)


@pytest.mark.parametrize("keep", [0, 100])
def test_damaged_metaimage_is_one_line(tmp_path: Path, keep: int) -> None:
    folder = write(tmp_path / "patient0001", "metaimage")
    raw = folder / "patient0001_2CH_ES.raw"
    raw.write_bytes(raw.read_bytes()[:keep])
    if not keep:
        raw.unlink()
    (pair,) = read_camus(f"{tmp_path}?view=2CH")
    with pytest.raises(InputError, match=r"patient0001_2CH_ES\.mhd") as error:
        load_image(pair.fixed)
    assert "\n" not in str(error.value)


def test_damaged_nifti_is_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "patient0001", "nifti")
    path = folder / "patient0001_2CH_ES.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    (pair,) = read_camus(f"{tmp_path}?view=2CH")
    with pytest.raises(InputError, match=r"patient0001_2CH_ES\.nii\.gz"):
        load_image(pair.fixed)
