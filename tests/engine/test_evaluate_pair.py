"""All measures of one registration against numbers known beforehand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import GRID, SHIFT, blocks, picture, write_case
from registration_cases import save

from regtool.engine.evaluate.pair import evaluate_record
from regtool.engine.evaluate.registered import Registered
from regtool.engine.evaluate.settings import METRICS, Settings, parse_structures
from regtool.errors import GeometryError, InputError, UsageError
from regtool.metrics.dice import dice
from regtool.metrics.similarity import mse, ncc, nmse, psnr
from regtool.metrics.ssim import ssim
from regtool.metrics.surface import hd95, surface_dice


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("exact"))


def test_a_perfect_shift(record: Path) -> None:
    found = evaluate_record(record)
    after = found["after"]
    assert after["dice"] == 1.0 == after["dice:2"]
    assert after["hd95"] == 0.0 == after["hd95:3"]
    assert after["surface_dice"] == 1.0
    assert after["tre"] == pytest.approx(3.0, abs=1e-4) == after["tre_max"]
    assert after["folds"] == 0.0
    assert after["sd_jacobian"] == pytest.approx(0.0, abs=1e-6)
    assert after["inverse_error_max"] == pytest.approx(0.0, abs=1e-5)
    assert after["seconds"] == 2.0
    assert found["method"] == "toy"
    assert found["details"]["labels"]["interpolation"] == "nearest"
    assert found["notes"] == []


def test_before_is_the_images_as_they_were(record: Path) -> None:
    found = evaluate_record(record)["before"]
    fixed, moving = blocks(0), blocks(0, SHIFT)
    spacing = (4.0, 1.5, 2.0)
    assert found["dice:1"] == pytest.approx(dice(fixed, moving)[1])
    assert found["dice"] == pytest.approx(np.mean(list(dice(fixed, moving).values())))
    assert found["hd95:2"] == pytest.approx(hd95(fixed, moving, spacing)[2])
    assert found["surface_dice:1"] == pytest.approx(surface_dice(fixed, moving, spacing, 2.0)[1])
    apart = GRID.direction_matrix @ (SHIFT * np.array(GRID.spacing)) + (3.0, 0.0, 0.0)
    assert found["tre"] == pytest.approx(np.linalg.norm(apart), abs=1e-4)
    images = picture(fixed, 0), picture(moving, 100)
    for name, function in (("ncc", ncc), ("mse", mse), ("nmse", nmse), ("psnr", psnr),
                           ("ssim", ssim)):  # fmt: skip
        assert found[name] == pytest.approx(function(*images), rel=1e-5)
    assert "folds" not in found


def test_images_whose_air_is_not_0_say_how_much_the_moving_image_does_not_cover(
    tmp_path: Path,
) -> None:
    write_case(tmp_path)
    for role in ("fixed", "moving"):
        shift = SHIFT if role == "moving" else (0, 0, 0)
        air = picture(blocks(0, shift), 0) - 1000
        save(tmp_path / "images" / f"0_{role}.nii.gz", air.astype(np.float32), GRID)
    record = write_case(tmp_path)
    (note,) = evaluate_record(record, settings=Settings(metrics=("ncc",)))["notes"]
    x, y, z = (n - abs(s) for n, s in zip(GRID.size, SHIFT, strict=True))
    share = 100 * (1 - x * y * z / math.prod(GRID.size))
    assert note.startswith(f"{share:.2g} % of the fixed image lies beyond the moving image")
    middle = np.zeros(GRID.shape, np.uint8)
    middle[2:5, 4:10, 4:10] = 1
    save(tmp_path / "mask.nii.gz", middle, GRID)
    masked = Settings(metrics=("ncc",), mask=tmp_path / "mask.nii.gz")
    assert evaluate_record(record, settings=masked)["notes"] == []


def test_half_a_shift_is_between(tmp_path: Path) -> None:
    found = evaluate_record(write_case(tmp_path, part=0.5))
    assert found["before"]["dice"] < found["after"]["dice"] < 1
    assert 3 < found["after"]["tre"] < found["before"]["tre"]


def test_groups_names_and_means(record: Path) -> None:
    names = {1: "wall", 3: "spot"}
    after = evaluate_record(record, settings=Settings(names=names))["after"]
    assert {"dice:wall", "dice:2", "dice:spot"} <= set(after)
    groups = parse_structures(["both=2+spot", "all=1+2+3", "none=9"], None, names)
    assert groups == {"both": (2, 3), "all": (1, 2, 3), "none": (9,)}
    found = evaluate_record(record, settings=Settings(structures=groups))
    assert [k for k in found["after"] if k.startswith("dice")] == ["dice", "dice:both", "dice:all"]
    before = found["before"]
    assert before["dice"] == pytest.approx((before["dice:both"] + before["dice:all"]) / 2)
    fixed, moving = blocks(0), blocks(0, SHIFT)
    assert before["dice:both"] == pytest.approx(dice(fixed > 1, moving > 1)[1])


def test_a_structure_that_is_missing(record: Path, tmp_path: Path) -> None:
    """Label 7 is in the moving image only: no overlap, no distance, a remark."""
    labels = blocks(0, SHIFT)
    labels[4, 15, 15] = 7
    file = save(tmp_path / "more.nii.gz", labels, GRID)
    found = evaluate_record(record, {"moving_labels": file})
    assert found["after"]["dice:7"] == 0.0
    assert found["after"]["dice"] == pytest.approx(0.75)
    assert math.isinf(found["after"]["hd95:7"])
    assert found["after"]["hd95"] == 0.0
    assert found["notes"] == ["in one map only: 7; mean HD95 leaves them out"]


def test_labels_on_another_grid_are_resampled(record: Path, tmp_path: Path) -> None:
    wide = np.pad(blocks(0), 1)
    origin = GRID.index_to_world @ (-1, -1, -1, 1)
    grid = type(GRID)((22, 20, 10), GRID.spacing, GRID.direction, tuple(origin[:3]))
    file = save(tmp_path / "wide.nii.gz", wide, grid)
    found = evaluate_record(record, {"fixed_labels": file})
    assert found["after"]["dice"] == 1.0
    assert "not on the grid" in found["notes"][0]


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """Images that are gone do not matter to Dice; to NCC they do."""
    path = write_case(tmp_path)
    for name in ("fixed", "moving"):
        (tmp_path / "images" / f"0_{name}.nii.gz").unlink()
    found = evaluate_record(path, settings=Settings(("dice", "seconds")))
    assert set(found["after"]) == {"dice", "dice:1", "dice:2", "dice:3", "seconds"}
    with pytest.raises(InputError, match=r"0_fixed.nii.gz: no such file.*--fixed"):
        evaluate_record(path, settings=Settings(("ncc",)))


def test_paths_beside_the_record_are_found(tmp_path: Path) -> None:
    path = write_case(tmp_path / "there")
    content = json.loads(path.read_text("utf-8"))
    for role in ("fixed", "moving"):
        content[role]["path"] = f"images/0_{role}.nii.gz"
    content["companions"] = {"fixed_labels": "images/0_fixed_labels.nii.gz",
                             "moving_labels": "images/0_moving_labels.nii.gz"}  # fmt: skip
    path.write_text(json.dumps(content), "utf-8")
    found = evaluate_record(path)
    assert found["after"]["dice"] == 1.0
    assert "ncc" in found["after"] and "tre" not in found["after"]


def test_changed_and_missing_files(tmp_path: Path) -> None:
    path = write_case(tmp_path)
    image = tmp_path / "images" / "0_moving.nii.gz"
    save(image, blocks(5).astype(np.float32), GRID)
    with pytest.raises(InputError, match=r"0_moving.nii.gz: has changed since"):
        evaluate_record(path)
    found = evaluate_record(path, {"moving": image}, Settings(("ncc",)))
    assert found["before"]["ncc"] < 0.9  # what the user names is taken as it is
    warp = tmp_path / "pair0_1Warp.nii.gz"
    warp.write_bytes(warp.read_bytes() + b"0")
    with pytest.raises(InputError, match=r"pair0_1Warp.nii.gz: has changed since"):
        evaluate_record(path)
    warp.unlink()
    with pytest.raises(InputError, match=r"pair0_1Warp.nii.gz: missing"):
        evaluate_record(path)


def test_intensities_in_units_of_the_fixed_range(record: Path) -> None:
    stored = evaluate_record(record, settings=Settings(("mse", "psnr", "ssim")))["after"]
    unit = evaluate_record(record, settings=Settings(("mse", "psnr"), intensities="unit"))["after"]
    span = float(np.ptp(picture(blocks(0), 0)))
    assert unit["mse"] == pytest.approx(stored["mse"] / span**2)
    assert unit["psnr"] == pytest.approx(stored["psnr"])
    assert unit["mse"] == pytest.approx(10 ** (-stored["psnr"] / 10))


def test_masks(record: Path, tmp_path: Path) -> None:
    mask = (blocks(0) == 1).astype(np.uint8)
    mask[1:7, 5:13, 5:15] = 1
    file = save(tmp_path / "mask.nii.gz", mask, GRID)
    found = evaluate_record(record, settings=Settings(mask=file))
    images = picture(blocks(0), 0), picture(blocks(0, SHIFT), 100)
    assert found["before"]["mse"] == pytest.approx(mse(*images, mask), rel=1e-5)
    assert found["details"]["jacobian"]["voxels"] == mask[1:-1, 1:-1, 1:-1].sum()
    empty = save(tmp_path / "empty.nii.gz", mask * 0, GRID)
    with pytest.raises(GeometryError, match="empty"):
        evaluate_record(record, settings=Settings(mask=empty))


def test_forward_differences_count_all_but_one_layer(record: Path) -> None:
    for scheme, voxels in (("central", 18 * 16 * 6), ("forward", 19 * 17 * 7)):
        found = evaluate_record(record, settings=Settings(("folds",), scheme=scheme))
        assert found["details"]["jacobian"]["voxels"] == voxels
        assert found["details"]["jacobian"]["differences"] == scheme


@pytest.mark.parametrize(
    ("files", "metrics", "says"),
    [
        ({"fixed_points": "none.csv"}, None, "none.csv: no such file"),
        ({"moving_points": "two.csv"}, None, r"but .*two.csv 2"),
        ({"fixed_labels": "none.nii"}, None, "none.nii: no such file"),
        ({}, ("tre",), "tre needs --fixed-points"),
        ({}, ("hd95",), "give --fixed-labels"),
        ({}, ("inverse_error",), "lists no inverse"),
    ],
)
def test_what_cannot_be_measured_is_an_error_when_asked_for(
    files: dict[str, str], metrics: tuple[str, ...] | None, says: str, tmp_path: Path
) -> None:
    path = write_case(tmp_path)
    (tmp_path / "two.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    if not files:
        content = json.loads(path.read_text("utf-8"))
        content["companions"] = {}
        del content["outputs"]["1InverseWarp.nii.gz"]
        path.write_text(json.dumps(content), "utf-8")
        assert {"tre", "dice", "inverse_error"}.isdisjoint(evaluate_record(path)["after"])
    with pytest.raises(InputError, match=says):
        evaluate_record(path, {k: tmp_path / v for k, v in files.items()}, Settings(metrics))


def test_landmarks_outside_the_image_are_told(record: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.csv"
    far.write_text("x,y,z\n900,0,0\n")
    found = evaluate_record(record, {"fixed_points": far, "moving_points": far})
    assert found["notes"] == ["1 landmarks lie outside the fixed image"]
    assert found["after"]["tre"] == 0.0  # beyond its grid a field is zero


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_had_alone(metric: str, record: Path) -> None:
    found = evaluate_record(record, settings=Settings((metric,)))["after"]
    assert {
        key.partition(":")[0].removesuffix("_max").removesuffix("_median") for key in found
    } == {metric}


def test_settings_are_checked() -> None:
    for bad in ({"metrics": ("dise",)}, {"scheme": "backward"}, {"tolerance": -1.0},
                {"label_interpolation": "linear"}, {"intensities": "log"}):  # fmt: skip
        with pytest.raises(UsageError):
            Settings(**bad)  # type: ignore[arg-type]
    for groups, regions in ((["LV"], None), (["LV=a"], None), (["heart=1"], "acdc"), ([], "brain")):
        with pytest.raises(UsageError):
            parse_structures(groups, regions, {})
    assert parse_structures([], None, {}) is None


def test_a_broken_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a_regtool.json").write_text('{"kind": "registration", "schema": 1}')
    with pytest.raises(InputError, match=r"lists no Warped"):
        Registered(tmp_path / "a_regtool.json")
