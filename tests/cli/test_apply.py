"""``apply`` on every kind of subject, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from cli_cases import Case, Program
from registration_cases import points_of, read_array, read_csv, save, write_csv

from regtool.spatial.grid import Grid


def test_lone_warp_of_a_real_affine_is_refused(done3d: Case, regtool: Program) -> None:
    warp = done3d.output("1Warp.nii.gz")
    ran = regtool("apply", done3d.files["moving"], "-t", warp)
    assert ran.code == 2
    assert f"-t {warp} -t {done3d.output('0GenericAffine.mat')}" in ran.err
    assert str(done3d.record) in ran.err
    assert len(ran.err.splitlines()) == 1


def test_lone_warp_of_an_identity_is_fine(
    done_stack: Case, regtool: Program, tmp_path: Path
) -> None:
    regtool("apply", done_stack.files["moving"], "-t", done_stack.output("1Warp.nii.gz")).ok()
    made = read_array(tmp_path / "moving_warped.nii.gz")
    assert np.abs(made - read_array(done_stack.output("Warped.nii.gz"))).max() < 1e-3


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
def test_label_set_is_preserved(
    interpolation: str, done3d: Case, regtool: Program, tmp_path: Path
) -> None:
    out = tmp_path / "l.nii.gz"
    regtool("apply", done3d.files["moving_labels"], "-t", done3d.record, "-n", interpolation,
            "-o", out).ok()  # fmt: skip
    values = read_array(out)
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {0, 2, 7}


def test_linear_on_labels_warns_once(done2d: Case, regtool: Program) -> None:
    ran = regtool("apply", done2d.files["moving_labels"], "-t", done2d.record).ok()
    assert ran.err.count("warning: ") == 1
    assert "-n label" in ran.err
    quiet = regtool("apply", done2d.files["moving_labels"], "-t", done2d.record, "-q",
                    "--overwrite").ok()  # fmt: skip
    assert quiet.err.count("\n") == 1 and "-n label" in quiet.err


def test_series_frame_by_frame(done3d: Case, regtool: Program, tmp_path: Path) -> None:
    moving = sitk.ReadImage(str(done3d.files["moving"]))
    series = sitk.JoinSeries([moving, moving * 2, moving + 5])
    sitk.WriteImage(series, str(tmp_path / "series.nii.gz"))
    out = tmp_path / "out.nii.gz"
    regtool("apply", "series.nii.gz", "-t", done3d.record, "-o", out).ok()
    frames = read_array(out)
    once = read_array(done3d.output("Warped.nii.gz"))
    assert frames.shape == (3, *done3d.fixed.shape)
    np.testing.assert_allclose(frames[0], once, atol=0.01)
    np.testing.assert_allclose(frames[1], 2 * once, atol=0.02)


@pytest.mark.parametrize("name", ["done2d", "done3d", "done_slice"])
def test_rgb(name: str, regtool: Program, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    original = nib.load(case.files["moving"])
    grey = (np.asarray(original.dataobj) / 5).clip(0, 255).astype(np.uint8)
    colours = np.stack([grey, grey // 2, 255 - grey], -1)
    packed = colours.copy().view([(c, "u1") for c in "RGB"])[..., 0]
    nib.Nifti1Image(packed, original.affine).to_filename(tmp_path / "rgb.nii.gz")
    nib.Nifti1Image(grey, original.affine).to_filename(tmp_path / "grey.nii.gz")
    for subject in ("rgb.nii.gz", "grey.nii.gz"):
        regtool("apply", subject, "-r", case.files["fixed"], "-t", case.record).ok()
    image = nib.load(tmp_path / "rgb_warped.nii.gz")
    assert image.shape == case.fixed.size
    assert int(image.header["datatype"]) == 128
    values = np.asarray(image.dataobj)
    single = np.asarray(nib.load(tmp_path / "grey_warped.nii.gz").dataobj)
    assert np.abs(values["R"].astype(float) - single).max() <= 0.51


def test_bspline_stays_close_to_linear(done2d: Case, regtool: Program, tmp_path: Path) -> None:
    regtool("apply", done2d.files["moving"], "-t", done2d.record, "-n", "bspline").ok()
    linear = read_array(done2d.output("Warped.nii.gz"))
    spline = read_array(tmp_path / "moving_warped.nii.gz")
    assert np.abs(spline - linear).mean() < 0.02 * np.ptp(linear)


def test_points_keep_their_other_columns(done3d: Case, regtool: Program, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("x,y,z,t,label,comment\n10,-20,30,0,4,a note\n", "utf-8")
    regtool("apply", "p.csv", "-t", done3d.record).ok()
    head, row = (tmp_path / "p_warped.csv").read_text("utf-8").splitlines()
    assert head == "x,y,z,t,label,comment"
    assert row.endswith(",0,4,a note")


def test_three_columns_for_a_plane(done2d: Case, regtool: Program, tmp_path: Path) -> None:
    write_csv(tmp_path / "p.csv", np.array([[10.0, -20.0, 0.0]]))
    regtool("apply", "p.csv", "-t", done2d.record).ok()
    assert read_csv(tmp_path / "p_warped.csv").shape == (1, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float64])
def test_types_and_slopes(dtype: type, done2d: Case, regtool: Program, tmp_path: Path) -> None:
    """Stored integers with a slope come out as the values they mean."""
    truth = read_array(done2d.files["moving"])
    scaled = np.round(truth / np.ptp(truth) * 100).astype(dtype)
    image = nib.Nifti1Image(scaled.T, nib.load(done2d.files["moving"]).affine, dtype=dtype)
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / "m.nii.gz")
    regtool("apply", "m.nii.gz", "-r", done2d.files["fixed"], "-t", done2d.record, "-q").ok()
    plain = save(tmp_path / "plain.nii.gz", nib.load(tmp_path / "m.nii.gz").get_fdata().T,
                 done2d.moving)  # fmt: skip
    regtool("apply", plain, "-r", done2d.files["fixed"], "-t", done2d.record).ok()
    made, wanted = (
        read_array(tmp_path / "m_warped.nii.gz"),
        read_array(tmp_path / "plain_warped.nii.gz"),
    )
    np.testing.assert_allclose(made, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("moving", "-t", "nothing.mat"), 3, "nothing.mat: no such file"),
        (("moving", "-t", "fixed"), 3, "not a displacement field"),
        (("moving", "-t", "[affine,2]"), 2, "write [affine.mat,1]"),
        (("moving", "-t", "affine"), 2, "-r REFERENCE is needed"),
        (("moving", "-t", "[warp,1]"), 2, "use --inverse"),
        (("moving", "-t", "[record,1]"), 2, "r_regtool.json --inverse"),
        (("moving", "-t", "record", "-r", "record"), 3, "give the image"),
        (("moving", "-t", "record", "-o", "out.xyz"), 2, "unknown image format"),
        (("moving", "-t", "record", "-o", "moving", "--overwrite"), 2, "input as well as"),
        (("missing.nii", "-t", "record"), 3, "missing.nii: no such file"),
        (("missing.csv", "-t", "record"), 3, "missing.csv: no such file"),
        (("p.csv", "-t", "record", "-r", "fixed.nii.gz"), 2, "leave out -r"),
        (("p.csv", "-t", "record", "-n", "label"), 2, "leave out -n"),
        (("p.csv", "-t", "record", "-o", "p.nii.gz"), 2, "landmarks are written as .csv"),
        (("moving", "-t", "record", "-o", "p.csv"), 2, "unknown image format"),
        (("p.csv", "-t", "record", "--device", "gpu"), 2, "--device gpu"),
        (("moving", "-t", "record", "-n", "cubic"), 2, "cubic"),
        (("moving",), 2, "--transform"),
    ],
)
def test_refusals(
    arguments: tuple[str, ...], code: int, says: str, done3d: Case, regtool: Program
) -> None:
    names = {
        "moving": done3d.files["moving"],
        "fixed": done3d.files["fixed"],
        "record": done3d.record,
        "affine": done3d.output("0GenericAffine.mat"),
        "[affine,2]": f"[{done3d.output('0GenericAffine.mat')},2]",
        "[record,1]": f"[{done3d.record},1]",
        "[warp,1]": f"[{done3d.output('1Warp.nii.gz')},1]",
    }
    ran = regtool("apply", *[names.get(a, a) for a in arguments])
    assert ran.code == code, ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err and ran.out == ""


def test_dimensions_must_fit(done2d: Case, done3d: Case, regtool: Program) -> None:
    ran = regtool("apply", done2d.files["moving"], "-t", done3d.record)
    assert ran.code == 3
    assert "2-D" in ran.err and "3-D" in ran.err


def test_moved_records_and_missing_files(done2d: Case, regtool: Program, tmp_path: Path) -> None:
    """A record works wherever its files go with it, and says what is missing."""
    for path in done2d.record.parent.glob("r_*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    regtool("apply", done2d.files["moving"], "-t", "r_regtool.json").ok()
    (tmp_path / "r_1Warp.nii.gz").unlink()
    ran = regtool("apply", done2d.files["moving"], "-t", "r_regtool.json", "--overwrite")
    assert ran.code == 3
    assert "r_1Warp.nii.gz: missing" in ran.err


def test_record_that_points_elsewhere(done2d: Case, regtool: Program, tmp_path: Path) -> None:
    record = json.loads(done2d.record.read_text("utf-8"))
    record["outputs"]["1Warp.nii.gz"]["file"] = "../other.nii.gz"
    (tmp_path / "bad_regtool.json").write_text(json.dumps(record), "utf-8")
    assert regtool("apply", done2d.files["moving"], "-t", "bad_regtool.json").code == 3
    record["schema"] = 99
    (tmp_path / "bad_regtool.json").write_text(json.dumps(record), "utf-8")
    ran = regtool("apply", done2d.files["moving"], "-t", "bad_regtool.json")
    assert ran.code == 3 and "update regtool" in ran.err


def test_json(done2d: Case, regtool: Program, tmp_path: Path) -> None:
    ran = regtool("apply", done2d.files["moving"], "-t", done2d.record, "--json", "-q").ok()
    assert json.loads(ran.out)["output"].endswith("moving_warped.nii.gz")
    assert ran.err == ""


def test_hand_made_shift(regtool: Program, tmp_path: Path) -> None:
    """A shift by one voxel moves an impulse by one voxel against it, exactly."""
    grid = Grid((9, 8, 7), (2.0, 3.0, 4.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0), (5.0, 6.0, 7.0))
    image = np.zeros(grid.shape, np.float32)
    image[3, 4, 5] = 100
    save(tmp_path / "m.nii.gz", image, grid)
    field = np.zeros((*grid.shape, 3), np.float32)
    field[...] = (-2.0, 0.0, 4.0)  # x index +1 (the axis is flipped), z index +1
    save(tmp_path / "w.nii.gz", field, grid, True)
    regtool("apply", "m.nii.gz", "-t", "w.nii.gz", "-o", "o.nii.gz").ok()
    values = read_array(tmp_path / "o.nii.gz")
    assert values[2, 4, 4] == 100 and values.sum() == 100
    assert points_of(grid).shape == (*grid.shape, 3)


def test_identity_only_changes_the_grid(done3d: Case, regtool: Program, tmp_path: Path) -> None:
    moving, fixed = done3d.files["moving"], done3d.files["fixed"]
    regtool("apply", moving, "-r", moving, "-t", "identity", "-o", "same.nii.gz").ok()
    np.testing.assert_allclose(read_array(tmp_path / "same.nii.gz"), read_array(moving), atol=1e-3)
    record = ("-t", done3d.record, "-o", "o.nii.gz", "--overwrite")
    regtool("apply", moving, "-t", "identity", *record).ok()
    warped = read_array(done3d.output("Warped.nii.gz"))
    np.testing.assert_allclose(read_array(tmp_path / "o.nii.gz"), warped, atol=1e-2)
    ran = regtool("apply", moving, "-t", "identity", "-o", "x.nii.gz")
    assert ran.code == 2 and "-r REFERENCE is needed" in ran.err
    points = done3d.files["fixed_points"]
    regtool("apply", points, "-t", "identity", "-o", "p.csv").ok()
    np.testing.assert_allclose(read_csv(tmp_path / "p.csv"), read_csv(points))
    regtool("apply", fixed, "-r", moving, "-t", "[identity,0]", "-o", "y.nii.gz").ok()


def test_a_file_of_another_kind_is_no_transform(
    done2d: Case, regtool: Program, tmp_path: Path
) -> None:
    (tmp_path / "talairach.lta").write_text("type = 1\n" * 99, "utf-8")
    ran = regtool("apply", done2d.files["moving"], "-t", "talairach.lta")
    assert ran.code == 3 and len(ran.err.splitlines()) == 1
    assert "talairach.lta: not a transform regtool can read; give a field" in ran.err
    (tmp_path / "warp").write_bytes(done2d.output("1Warp.nii.gz").read_bytes())
    regtool("apply", done2d.files["moving"], "-t", "warp", "-r", done2d.files["fixed"]).ok()
