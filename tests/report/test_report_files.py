"""From files that ``register`` wrote to the view and the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_html import Page

from regtool.data.phantom_files import write_phantom
from regtool.data.phantoms import make
from regtool.engine.register import register
from regtool.errors import InputError
from regtool.imaging.image_write import write_image
from regtool.imaging.reading import read_image, read_labels
from regtool.report.cohort import cohort_report
from regtool.report.files import cohort_rows, images_of, pair_view_from
from regtool.report.pair import pair_report
from regtool.report.scene import make_scene

BESIDE = ("fixed", "moving", "fixed_labels", "moving_labels")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a generated heart, registered with labels; its inputs lie beside it."""
    folder = tmp_path_factory.mktemp("pair")
    paths = {name: folder / f"{name}.nii.gz" for name in BESIDE}
    write_phantom(make("heart2d", 1, 96), paths)
    register(
        paths["fixed"], paths["moving"], "voxelmorph", output=folder / "r_", threads=1,
        fixed_labels=paths["fixed_labels"], moving_labels=paths["moving_labels"],
    )  # fmt: skip
    return folder / "r_regtool.json"


@pytest.fixture
def copied(registered: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil; the record still names the first folder."""
    shutil.copytree(registered.parent, tmp_path / "copy")
    return tmp_path / "copy" / registered.name


def test_the_view_is_what_was_written(registered: Path) -> None:
    view = pair_view_from(registered)
    folder = registered.parent
    record = json.loads(registered.read_text("utf-8"))
    assert view.record == record and view.extras == {}
    np.testing.assert_array_equal(view.warped, read_image(folder / "r_Warped.nii.gz").array)
    np.testing.assert_array_equal(view.moving, read_image(folder / "moving.nii.gz").array)
    labels = read_labels(folder / "r_WarpedLabels.nii.gz").array
    np.testing.assert_array_equal(view.warped_labels, labels)
    scene = make_scene(view)
    assert scene.folded.sum() == record["jacobian"]["count"]


def test_the_page_tells_the_numbers(registered: Path, tmp_path: Path) -> None:
    pair_report(pair_view_from(registered), tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text("utf-8"))
    page.check_self_contained()
    record = json.loads(registered.read_text("utf-8"))
    for when in ("before", "after"):
        assert f"{record['dice'][when]['mean']:.3f}" in page.text
        assert f"{record['similarity']['local_ncc'][when]:.3f}" in page.text
    for entry in (record["fixed"], record["moving"], *record["outputs"].values()):
        assert entry["sha256"] in page.text
    assert record["weights"]["sha256"] in page.text


def test_files_beside_the_record_are_found(copied: Path, registered: Path) -> None:
    record = json.loads(copied.read_text("utf-8"))
    for which in ("fixed", "moving"):
        record[which]["path"] = f"/gone/{which}.nii.gz"
    record["companions"] = {name: f"/gone/{name}.nii.gz" for name in BESIDE[2:]}
    record["request"] |= {name: f"/gone/{name}.nii.gz" for name in BESIDE}
    copied.write_text(json.dumps(record), "utf-8")
    moved, first = pair_view_from(copied), pair_view_from(registered)
    np.testing.assert_array_equal(moved.fixed, first.fixed)
    np.testing.assert_array_equal(moved.fixed_labels, first.fixed_labels)
    (copied.parent / "fixed.nii.gz").unlink()
    with pytest.raises(InputError, match=r"/gone/fixed.nii.gz: no such file, though"):
        pair_view_from(copied)


def test_images_in_memory_are_handed_over(copied: Path) -> None:
    record = json.loads(copied.read_text("utf-8"))
    volumes = {name: read_image(copied.parent / f"{name}.nii.gz") for name in BESIDE}
    for which in ("fixed", "moving"):
        record[which]["path"] = record[which]["sha256"] = None
    record["companions"] = {}
    copied.write_text(json.dumps(record), "utf-8")
    with pytest.raises(InputError, match="names no file for its fixed image"):
        pair_view_from(copied)
    view = pair_view_from(copied, **volumes)
    assert view.warped_labels is not None and view.warped_labels.any()


def test_changed_files_are_refused(copied: Path) -> None:
    shutil.copy(copied.parent / "moving.nii.gz", copied.parent / "r_Warped.nii.gz")
    with pytest.raises(InputError, match=r"r_Warped.nii.gz: has changed since"):
        pair_view_from(copied)


def test_extras_are_found_by_the_record(copied: Path) -> None:
    record = json.loads(copied.read_text("utf-8"))
    shutil.copy(copied.parent / "fixed.nii.gz", copied.parent / "r_Uncertainty.nii.gz")
    shutil.copy(copied.parent / "r_1Warp.nii.gz", copied.parent / "r_Sample.nii.gz")
    for name in ("Uncertainty", "Sample"):
        record["outputs"][f"{name}.nii.gz"] = {"file": f"r_{name}.nii.gz"}
    copied.write_text(json.dumps(record), "utf-8")
    view = pair_view_from(copied)
    assert set(view.extras) == {"Uncertainty", "Sample"}
    assert view.extras["Sample"].values.shape == (*view.grid.shape, 2)
    pair_report(view, copied.parent / "r.html")
    assert "Uncertainty" in (copied.parent / "r.html").read_text("utf-8")


def test_of_a_series_some_frames_are_shown(copied: Path) -> None:
    """A 4-D trajectory with a field for each frame, as DiffuseMorph writes them."""
    record = json.loads(copied.read_text("utf-8"))
    frames = [read_image(copied.parent / f"{name}.nii.gz") for name in ("fixed", "moving")] * 4
    stack = np.stack([frame.array for frame in frames])
    write_image(copied.parent / "r_Way.nii.gz", stack, frames[0].grid, kind="series")
    shutil.copy(copied.parent / "r_1Warp.nii.gz", copied.parent / "r_Way01Warp.nii.gz")
    shutil.copy(copied.parent / "r_1Warp.nii.gz", copied.parent / "r_Scale1Warp.nii.gz")
    for name in ("Way01Warp", "Way", "Scale1Warp"):
        record["outputs"][f"{name}.nii.gz"] = {"file": f"r_{name}.nii.gz"}
    copied.write_text(json.dumps(record), "utf-8")
    view = pair_view_from(copied)
    shown = [f"Way {k} of 8" for k in (1, 3, 5, 6, 8)]
    assert list(view.extras) == [*shown, "Scale1Warp"]
    np.testing.assert_array_equal(view.extras["Way 8 of 8"].values, frames[7].array)


def test_a_cohort_from_its_folder(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "copy" / "broken_regtool.json").write_text("{}")
    shutil.copytree(copied.parent, tmp_path / ".regtool-tmp-host-1-x")
    rows = list(cohort_rows(tmp_path))
    assert [Path(r["record_path"]).name for r in rows] == ["r_regtool.json"]
    fixed, warped, labels = images_of(rows[0]["record_path"])
    assert fixed.array.shape == warped.shape == labels.shape
    path = cohort_report(rows, tmp_path / "c.html")
    page = Page(path.read_text("utf-8"))
    page.check_self_contained()
    assert "cut to the labels" in page.text
    assert sum(tag == "img" for tag, _ in page.links) == 3


def test_a_case_whose_files_are_gone_says_so(copied: Path, tmp_path: Path) -> None:
    (copied.parent / "r_Warped.nii.gz").unlink()
    path = cohort_report(cohort_rows(tmp_path), tmp_path / "c.html")
    assert "no pictures" in path.read_text("utf-8")
