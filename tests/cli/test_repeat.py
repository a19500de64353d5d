"""``rerun`` and ``diff``: the same result again, and what differs when it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_cases import QUICK, Program
from registration_cases import read_array

ASKED = {"fixed": "x", "moving": "y"}


@pytest.fixture
def made(regtool: Program, tiny: dict[str, Path], tmp_path: Path) -> Path:
    """The record of a short registration, with a composite and an inverse."""
    regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "a_", "--composite",
            "--inverse", "--initial", "com").ok()  # fmt: skip
    return tmp_path / "a_regtool.json"


def test_a_registration_is_repeated_to_the_byte(made: Path, regtool: Program) -> None:
    before = {path.name for path in made.parent.iterdir()}
    ran = regtool("rerun", made, "--json", "--exit-code").ok()
    answer = json.loads(ran.out)
    assert answer["identical"] and answer["facts"] == []
    roles = {file["role"]: file["state"] for file in answer["files"]}
    assert {"1Warp.nii.gz", "Composite.h5", "1InverseWarp.nii.gz"} <= set(roles)
    assert set(roles.values()) == {"identical"}
    assert {path.name for path in made.parent.iterdir()} == before  # nothing is left


def test_a_method_that_is_gone_names_what_to_install(made: Path, regtool: Program) -> None:
    record = json.loads(made.read_text())
    record["method"] = {"name": "flow", "distribution": "regtool-flow 0.1.0"}
    record["request"]["method"] = "flow"
    made.write_text(json.dumps(record))
    ran = regtool("rerun", made)
    assert ran.code == 2
    assert f"{made}: method 'flow' of regtool-flow 0.1.0 is not here" in ran.err
    assert "install regtool-flow 0.1.0" in ran.err


def test_it_is_found_from_another_folder_and_kept_where_asked(
    made: Path, regtool: Program, tmp_path: Path
) -> None:
    """A transform file given by a relative path is found again, too."""
    matrix = "a_0GenericAffine.mat"
    record = json.loads(made.read_text())
    fixed, moving = (record["request"][name] for name in ("fixed", "moving"))
    regtool("register", *QUICK, fixed, moving, "-o", "b_", "--initial", matrix).ok()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = regtool("rerun", tmp_path / "b_regtool.json", "-o", "again_", cwd=elsewhere).ok()
    assert "identical" in ran.err and "1Warp.nii.gz" in ran.out
    one, two = (read_array(p / f"{n}1Warp.nii.gz") for p, n in ((tmp_path, "b_"),
                                                                (elsewhere, "again_")))  # fmt: skip
    np.testing.assert_array_equal(one, two)
    ran = regtool("rerun", tmp_path / "b_regtool.json", "-o", "again_", cwd=elsewhere)
    assert ran.code == 8


def test_paths_are_the_same_however_they_are_spelt(
    regtool: Program, tiny: dict[str, Path], tmp_path: Path
) -> None:
    fixed, moving, labels = (tiny[name].name for name in ("fixed", "moving", "moving_labels"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    args = ("register", *QUICK, "--initial", "identity.mat", "--moving-labels")
    regtool("register", *QUICK, fixed, moving, "-o", "identity_").ok()
    (tmp_path / "identity_0GenericAffine.mat").rename(tmp_path / "identity.mat")
    regtool(*args, labels, fixed, moving, "-o", "a_").ok()
    answer = json.loads(regtool("rerun", "../a_regtool.json", "--json", cwd=elsewhere).ok().out)
    assert answer["identical"] and answer["facts"] == []
    shutil.copy(tiny["moving_labels"], elsewhere / labels)
    regtool(*args, f"elsewhere/../elsewhere/{labels}", tiny["fixed"], f"elsewhere/../{moving}",
            "-o", "b_").ok()  # fmt: skip
    answer = json.loads(regtool("diff", "a_regtool.json", "b_regtool.json", "--json").ok().out)
    assert {fact["name"] for fact in answer["facts"]} == {
        "request.moving_labels", "companions.moving_labels"
    }  # fmt: skip


def test_weights_by_a_relative_path_are_found_from_another_folder(
    tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    weights = Path(__file__).parents[2] / "weights" / "voxelmorph-acdc-2d"
    (tmp_path / "w").symlink_to(weights.parent)
    args = ("register", "-m", "voxelmorph", tiny["fixed"], tiny["moving"])
    regtool(*args, "-w", f"w/{weights.name}", "-o", "a_").ok()
    record = json.loads((tmp_path / "a_regtool.json").read_text())
    assert record["request"]["weights"] == f"{tmp_path}/w/{weights.name}"
    assert Path(record["weights"]["path"]).is_absolute()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    answer = json.loads(regtool("rerun", "../a_regtool.json", "--json", cwd=elsewhere).ok().out)
    assert answer["identical"] and answer["facts"] == []
    regtool(*args, "-w", weights.name, "-o", "b_").ok()
    named = json.loads((tmp_path / "b_regtool.json").read_text())
    assert named["request"]["weights"] == "voxelmorph-acdc-2d", "a name stays a name"


def test_what_moved_along_with_the_record_is_found(
    regtool: Program, tiny: dict[str, Path], tmp_path: Path
) -> None:
    names = {name: tiny[name].name for name in ("fixed", "moving", "moving_labels")}
    regtool("register", *QUICK, names["fixed"], names["moving"], "-o", "start_").ok()
    regtool("register", *QUICK, names["fixed"], names["moving"], "-o", "a_", "--moving-labels",
            names["moving_labels"], "--initial", "start_0GenericAffine.mat").ok()  # fmt: skip
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in [*tiny.values(), *tmp_path.glob("a_*"), *tmp_path.glob("start_*")]:
        path.rename(moved / path.name)
    ran = regtool("rerun", moved / "a_regtool.json", "--exit-code", cwd=tmp_path).ok()
    assert "identical" in ran.err
    (moved / names["moving"]).unlink()
    ran = regtool("rerun", moved / "a_regtool.json", cwd=tmp_path)
    assert ran.code == 3 and names["moving"] in ran.err and len(ran.err.splitlines()) == 1


def test_new_files_in_a_folder_are_named_as_they_are(
    made: Path, regtool: Program, tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    ran = regtool("rerun", made, "-o", "again").ok()
    assert (tmp_path / "again" / "regtool.json").exists()
    assert "wrote again/regtool.json" in ran.err


def test_diff_tells_setting_figure_and_file(made: Path, regtool: Program) -> None:
    record = json.loads(made.read_text())
    fixed, moving = (record["request"][name] for name in ("fixed", "moving"))
    regtool("register", "-m", "optimise", "--set", "iterations=6,4", fixed, moving, "-o", "b_",
            "--initial", "com").ok()  # fmt: skip
    ran = regtool("diff", made, "b_regtool.json", "--json").ok()
    answer = json.loads(ran.out)
    facts = {fact["name"]: (fact["first"], fact["second"]) for fact in answer["facts"]}
    assert facts["request.settings.iterations"] == ("3,2", "6,4")
    assert "similarity.local_ncc.after" in facts
    assert "date" not in facts and not any(name.startswith("seconds") for name in facts)
    files = {file["role"]: file for file in answer["files"]}
    assert files["0GenericAffine.mat"]["state"] == "identical"
    assert files["Composite.h5"]["state"] == "first only"
    one, two = (read_array(made.parent / f"{n}_1Warp.nii.gz") for n in "ab")
    assert files["1Warp.nii.gz"]["largest"] == pytest.approx(np.abs(one - two).max(), rel=1e-4)
    assert 0 < files["1Warp.nii.gz"]["share"] <= 1
    assert regtool("diff", made, "b_regtool.json", "--exit-code").code == 7
    shown = regtool("diff", made, "b_regtool.json").ok()
    assert "differs by at most" in shown.out and "first only" in shown.out
    share = f"in {100 * files['1Warp.nii.gz']['share']:.3g} % of the values"
    assert share in shown.out and "e+02 %" not in shown.out


def test_the_same_content_in_another_wrapping_is_the_same(made: Path, regtool: Program) -> None:
    import SimpleITK as sitk

    folder = made.parent / "copy"
    folder.mkdir()
    for path in made.parent.glob("a_*"):
        shutil.copy(path, folder)
    warped = folder / "a_Warped.nii.gz"
    before = warped.read_bytes()
    sitk.WriteImage(sitk.ReadImage(str(warped)), str(warped), useCompression=True,
                    compressionLevel=1)  # fmt: skip
    assert warped.read_bytes() != before
    regtool("diff", made, folder / "a_regtool.json", "--exit-code").ok()


def test_another_image_under_the_same_name_is_refused(made: Path, regtool: Program) -> None:
    record = json.loads(made.read_text())
    shutil.copy(record["request"]["moving"], record["request"]["fixed"])
    ran = regtool("rerun", made)
    assert ran.code == 3 and "is not the fixed image" in ran.err and len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"request": None}, "does not say what was asked"),
        ({"request": {"fixed": None, "moving": None}}, "came from memory"),
        ({"request": {"fixed": "x", "moving": "y", "shear": 1}}, "'shear'"),
        ({"request": {"fixed": "/gone.nii", "moving": "/gone.nii"}}, "/gone.nii"),
        ({"request": {**ASKED, "seed": "x"}}, "seed"),
        ({"request": {**ASKED, "settings": [1]}}, "settings"),
        ({"request": {**ASKED, "initial": 5}}, "initial"),
        ({"request": {**ASKED, "refine": "50"}}, "refine"),
        ({"request": {**ASKED, "fixed_mask": 7}}, "fixed_mask"),
        ({"request": {**ASKED, "weights": 5}}, "weights"),
        ({"request": {**ASKED, "topology": "zz"}}, "topology"),
    ],
)
def test_records_that_cannot_be_repeated(
    change: dict[str, object], words: str, regtool: Program, tmp_path: Path
) -> None:
    content = {"schema": 1, "kind": "registration", "fixed": {"sha256": "0"}, **change}
    (tmp_path / "x_regtool.json").write_text(json.dumps(content))
    ran = regtool("rerun", "x_regtool.json")
    assert ran.code == 3 and words in ran.err and len(ran.err.splitlines()) == 1
    ran = regtool("diff", "x_regtool.json", "none.json")
    assert ran.code == 3 and "none.json" in ran.err


def test_lost_outputs_are_made_again(made: Path, regtool: Program, tmp_path: Path) -> None:
    warp = tmp_path / "a_1Warp.nii.gz"
    before = warp.read_bytes()
    warp.unlink()
    ran = regtool("rerun", made, "-o", "rr_", "--json").ok()
    assert (tmp_path / "rr_1Warp.nii.gz").read_bytes() == before
    answer = json.loads(ran.out)
    states = {file["role"]: file["state"] for file in answer["files"]}
    assert states.pop("1Warp.nii.gz") == "missing" and set(states.values()) == {"identical"}
    assert not answer["identical"]
    told = "missing, and so not compared: 1Warp.nii.gz; the others are identical"
    assert told in ran.err
    ran = regtool("rerun", made, "--exit-code")
    assert ran.code == 7 and f"error: {told}" in ran.err and "-o PREFIX keeps" in ran.err
    assert "missing (made again, with the recorded hash)" in ran.out
    assert regtool("diff", made, "rr_regtool.json").code == 3  # nothing is made again there
    for path in tmp_path.glob("a_*.[nmh]*"):
        path.unlink()
    ran = regtool("rerun", made).ok()
    assert "Composite.h5" in ran.err and "the others" not in ran.err


def test_new_files_never_replace_the_record_they_are_compared_with(
    made: Path, regtool: Program
) -> None:
    before = made.read_bytes()
    ran = regtool("rerun", made, "-o", "a_", "--overwrite")
    assert ran.code == 2 and "would replace" in ran.err and len(ran.err.splitlines()) == 1
    assert made.read_bytes() == before


def test_an_old_output_that_has_changed_is_told(
    made: Path, regtool: Program, tmp_path: Path
) -> None:
    """The repetition is not to blame, and it is kept."""
    warp = tmp_path / "a_1Warp.nii.gz"
    for content, state in (
        ((tmp_path / "a_1InverseWarp.nii.gz").read_bytes(), "differs by at most"),
        (warp.read_bytes()[:999], "differs (a_1Warp.nii.gz: "),
    ):
        warp.write_bytes(content)
        ran = regtool("rerun", made.name, "-o", "rr_", "--overwrite").ok()
        told = "warning: a_1Warp.nii.gz: has changed since a_regtool.json was written"
        assert told in ran.err and ran.err.count("warning: ") == 1
        assert "wrote rr_regtool.json" in ran.err
        assert state in next(line for line in ran.out.splitlines() if line.startswith("1Warp"))
    assert regtool("diff", made.name, "rr_regtool.json").code == 3


def test_no_fact_of_what_only_one_record_has_nothing_of(made: Path, regtool: Program) -> None:
    other = json.loads(made.read_text())
    assert other["companions"] == {}
    other["companions"] = {"fixed_labels": "l.nii.gz"}
    (made.parent / "b_regtool.json").write_text(json.dumps(other))
    answer = json.loads(regtool("diff", made, "b_regtool.json", "--json").ok().out)
    assert [fact["name"] for fact in answer["facts"]] == ["companions.fixed_labels"]
