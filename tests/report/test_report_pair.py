"""The page of a pair: complete, self-contained, safe, written whole or not at all."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from registration_cases import make_grid
from report_html import Page
from report_views import make_record, make_view

from regtool.errors import OutputError, UsageError
from regtool.report.numbers import tiles
from regtool.report.pair import pair_report
from regtool.report.pngs import names
from regtool.report.scene import make_scene
from regtool.report.view import ExtraView

EVIL = "<script>alert(1)</script>"


def written(folder: Path, **given: Any) -> Page:
    """The page of a small view."""
    path = folder / "report.html"
    pair_report(make_view(**given), path)
    return Page(path.read_text("utf-8"))


def test_everything_is_there(tmp_path: Path) -> None:
    page = written(tmp_path)
    page.check_self_contained()
    for wanted in (
        "Fixed", "Moving, before", "Warped, after", "Difference before", "Difference after",
        "Checkerboard", "Deformation grid", "Displacement", "Jacobian",  # pictures
        "Axial", "Coronal", "Sagittal",
        "0.412", "0.938", "+0.525", "0.875", "1.25", "0.234", "0.25 %",  # numbers
        "a header was odd", "1 warning",
        "voxelmorph-acdc-3d", "6db77f", "aa11", "cc33", "x_Warped.nii.gz", "a fixed.nii.gz",
        "regtool register 'a fixed.nii.gz' moving.nii.gz", "40 × 36 × 10 voxels of 2 × 2 × 6 mm",
        "passes 2", "torch 2.9", "ean overlap (Dice) rose from 0.250 to 0.875", "folds at 7 voxels",
    ):  # fmt: skip
        assert wanted in page.text, wanted
    assert "unset" not in page.text


def test_the_page_tells_the_settings_that_ran_level_by_level(tmp_path: Path) -> None:
    record = make_record(make_grid("identity", (40, 36, 10), (2.0, 2.0, 6.0)))
    record["settings"] = {"rate": 0.5, "shrink": [[2, 2], [1, 1]], "iterations": [60, 10]}
    record["refine"] = {"iterations": 5, "settings": {"radius": [2, 2], "rate": 0.25}}
    page = written(tmp_path, record=record)
    assert "rate 0.5, shrink 2×2/1×1, iterations 60/10" in page.text
    assert "radius 2/2, rate 0.25" in page.text
    assert "settings, " not in page.text


def test_pictures_decode_to_the_slices(tmp_path: Path) -> None:
    page = written(tmp_path)
    uris = [link for tag, link in page.links if tag == "img"]
    assert len(uris) == 9 * (10 + 7 + 7)
    sizes = set()
    for uri in uris:
        data = base64.b64decode(uri.split(",", 1)[1])
        sizes.add(Image.open(io.BytesIO(data)).size)
    assert sizes == {(40, 36), (40, 10), (36, 10)}
    assert page.source.count('class="slice"') == 24
    assert len(re.findall(r'class="slice"[^>]* hidden>', page.source)) == 21


@pytest.mark.parametrize("direction", ["identity", "oblique"])
def test_flat_pairs(direction: str, tmp_path: Path) -> None:
    page = written(tmp_path, direction=direction, size=(44, 30), spacing=(1.0, 1.5))
    page.check_self_contained()
    assert "Image" in page.text and "Axial" not in page.text
    assert re.search(r"--ratio:0\.97", page.source)  # 44 mm wide, 45 mm high


def test_one_slice_and_slice_by_slice(tmp_path: Path) -> None:
    one = written(tmp_path, size=(40, 30, 1))
    assert "Axial" in one.text and "Coronal" not in one.text
    (tmp_path / "report.html").unlink()
    grid = make_view().grid
    many = written(tmp_path, record=make_record(grid, slices="z"))
    assert many.text.count("each slice registered by itself") == 1
    assert many.text.count("across the slices") == 2


def test_oblique_planes_say_so(tmp_path: Path) -> None:
    assert re.search(
        r"oblique, \d+° off the axial plane", written(tmp_path, direction="oblique").text
    )


@pytest.mark.parametrize(
    ("before", "after", "tone"),
    [
        (0.013, 0.011, "plain"),  # both are shown as 0.01
        (0.016, 0.014, "good"),  # 0.02 and 0.01: less than what counts for a similarity
        (1.0, 1.25, "bad"),
        (None, 1.25, "plain"),
    ],
)
def test_a_change_in_mm_has_a_tone_when_it_shows(
    before: float | None, after: float, tone: str
) -> None:
    landmarks = {"before": {"mean": before}, "after": {"mean": after, "count": 5}}
    record = make_record(make_view().grid, tre_mm=landmarks)
    found = {tile.name: tile for tile in tiles(record, {"max": 1.0, "p95": 1.0})}
    assert found["TRE"].tone == tone
    assert found["Local NCC"].tone == "good"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    grid = make_view().grid
    record = make_record(
        grid,
        fixed={"path": f"/data/{EVIL}.nii.gz", "size": [EVIL], "spacing": EVIL, "sha256": EVIL},
        warnings=[EVIL, '"><img src=x onerror=alert(1)>'],
        method={"name": EVIL, "distribution": EVIL},
        weights={"name": EVIL, "source": EVIL},
        command=["regtool", EVIL],
        software={EVIL: EVIL},
        outputs={EVIL: {"file": EVIL, "sha256": EVIL}},
        seconds={EVIL: 1.0, "total": 2.0},
        refine={EVIL: EVIL},
        dice={"before": {"mean": 0.1, "labels": {EVIL: 0.1}},
              "after": {"mean": 0.2, "labels": {EVIL: 0.2}}},
        similarity={EVIL: {"before": 0.1, "after": 0.2}},
    )  # fmt: skip
    extras = {EVIL: ExtraView(np.zeros(grid.shape, dtype=np.float32), grid)}
    page = written(tmp_path, record=record, extras=extras)
    page.check_self_contained()
    assert page.text.count(EVIL) > 12 and EVIL not in page.source
    assert "x" not in [link for _, link in page.links]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"fixed": 3, "moving": None, "warnings": "one", "weights": [], "options": 1, "dice": "x",
         "jacobian": [], "seconds": 2, "outputs": ["a"], "command": "regtool register",
         "similarity": {"local_ncc": 4}, "tre_mm": {"error": "3 fixed and 4 moving landmarks"},
         "affine": "no", "affine_is_identity": False, "software": 0, "companions": 7},
        {"similarity": {"local_ncc": {"before": "NaN", "after": float("nan")}},
         "dice": {"after": {"mean": True, "labels": {"1": None}}}, "jacobian": {"count": "many"}},
    ],
)  # fmt: skip
def test_any_record_makes_a_page(record: dict[str, Any], tmp_path: Path) -> None:
    page = written(tmp_path, record=record)
    page.check_self_contained()
    assert "moving image" in page.text and "nan" not in page.text.lower().split()


def test_equal_names_get_their_folders(tmp_path: Path) -> None:
    record = make_record(
        make_view().grid, fixed={"path": "/d/b/t1.nii"}, moving={"path": "c/t1.nii"}
    )
    page = written(tmp_path, record=record)
    assert "c/t1.nii" in page.text and re.search(r"<span>b/t1.nii</span>", page.source)


def test_worse_is_said(tmp_path: Path) -> None:
    worse = {"local_ncc": {"before": 0.9, "after": 0.5}}
    page = written(tmp_path, record=make_record(make_view().grid, similarity=worse))
    assert "Local similarity fell from 0.900 to 0.500" in page.text
    assert 'class="tile bad"' in page.source


def test_affine_is_shown_when_it_is_one(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[0, 3] = 12.5
    record = make_record(make_view().grid, affine=matrix.tolist(), affine_is_identity=False)
    page = written(tmp_path, record=record, affine=matrix)
    assert "12.5" in page.text and "Affine (LPS mm" in page.text


def test_noise_stays_under_three_megabytes(tmp_path: Path) -> None:
    """Noise does not compress; the budget drops slices instead."""
    random = np.random.default_rng(0)
    shape = (12, 256, 256)
    noise = {k: random.normal(size=shape).astype(np.float32) for k in ("fixed", "moving", "warped")}
    size, spacing = (256, 256, 12), (1.5, 1.5, 8.0)
    field = random.normal(0, 2, (*shape, 3)).astype(np.float32)
    written(tmp_path, size=size, spacing=spacing, field=field, **noise)
    assert (tmp_path / "report.html").stat().st_size < 4_000_000


def flat(**given: Any) -> Any:
    """A 2-D view."""
    return make_view("identity", (44, 30), (1.0, 1.5), **given)


def test_pngs_on_request(tmp_path: Path) -> None:
    grid = flat().grid
    wild = ExtraView(np.ones(grid.shape, dtype=np.float32), grid)
    paths = pair_report(flat(extras={"../$wild name": wild}), tmp_path / "r.html", tmp_path / "png")
    pngs = sorted(p.name for p in (tmp_path / "png").iterdir())
    assert sorted(p.name for p in paths[1:]) == pngs and len(pngs) == 10
    assert "image_jacobian.png" in pngs and "image_extra-..-wild-name.png" in pngs
    for path in paths[1:]:
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) > 200
            assert np.ptp(np.asarray(image.convert("L"))) > 100


def test_names_of_pngs_tell_plane_and_slice() -> None:
    scene = make_scene(make_view())
    found = names(scene, [(plane, 4) for plane in scene.planes])
    assert len(set(found)) == 27 and "coronal_005_mesh.png" in found


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        pair_report(make_view(), path)
    assert path.read_text() == "mine"
    pair_report(make_view(), path, overwrite=True)
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    image = tmp_path / "fixed.nii.gz"
    image.write_bytes(b"image")
    view = make_view()
    view = make_view(record=make_record(view.grid, fixed={"path": str(image)}))
    with pytest.raises(UsageError, match="input"):
        pair_report(view, image, overwrite=True)
    assert image.read_bytes() == b"image"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """A picture that cannot be written takes the page with it."""
    (tmp_path / "png" / "image_field.png").mkdir(parents=True)
    with pytest.raises(OutputError, match="folder"):
        pair_report(flat(), tmp_path / "r.html", tmp_path / "png", overwrite=True)
    assert [p.name for p in (tmp_path / "png").iterdir()] == ["image_field.png"]
    assert not (tmp_path / "r.html").exists()


def test_views_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="warped"):
        make_view(warped=np.zeros((3, 3, 3)))
    with pytest.raises(ValueError, match="field"):
        make_view(field=np.zeros((10, 36, 40, 2), dtype=np.float32))
