"""``register --pairs``: what is looked at before any work, and what counts as done."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_cases import QUICK, Program, write_table
from registration_cases import make_grid, read_array, transform, write_pair

METHOD = ("-m", "voxelmorph")


@pytest.mark.parametrize("outputs", [["x"], {}, {"1Warp.nii.gz": None}, {"a": {"file": ["x"]}}])
def test_a_damaged_list_of_outputs_is_no_complete_pair(
    outputs: object, tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", [("p", tiny), ("q", tiny)])
    args = ("register", *QUICK, "--pairs", "t.csv", "-o", "out")
    regtool(*args).ok()
    path = tmp_path / "out" / "p_regtool.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "outputs": outputs}))
    again = regtool(*args).ok()
    assert "2 pairs, 1 complete already" in again.err
    assert set(json.loads(path.read_text())["outputs"]) == {
        "Warped.nii.gz",
        "1Warp.nii.gz",
        "0GenericAffine.mat",
    }


def test_a_column_places_the_box(regtool: Program, tmp_path: Path) -> None:
    """Images larger than the box of 128 pixels: it is where the mask is."""
    grid = make_grid("identity", (150, 40), (1.5, 1.5))
    files = write_pair(tmp_path, grid, grid, transform(2, (2.0, 1.0)))
    right = np.zeros((150, 40), np.uint8)
    right[-9:] = 1
    affine = nib.load(files["fixed"]).affine
    nib.save(nib.Nifti1Image(right, affine), tmp_path / "right.nii.gz")
    rows = [("roi", {**files, "roi": Path("right.nii.gz")}), ("plain", {**files, "roi": Path()})]
    table = write_table(tmp_path / "t.csv", rows, "roi")
    table.write_text(table.read_text().replace(",.\n", ",\n"))
    regtool("register", *METHOD, "--pairs", "t.csv", "-o", "out").ok()
    regtool("register", *METHOD, files["fixed"], files["moving"], "-o", "one_", "--roi",
            "right.nii.gz").ok()  # fmt: skip
    one, roi, plain = (
        read_array(tmp_path / f"{prefix}1Warp.nii.gz")
        for prefix in ("one_", "out/roi_", "out/plain_")
    )
    np.testing.assert_allclose(roi, one, atol=1e-3)
    assert np.abs(roi - plain).max() > 0.1
    record = json.loads((tmp_path / "out" / "roi_regtool.json").read_text())
    assert record["request"]["roi"] == str(tmp_path / "right.nii.gz")
    ran = regtool("register", *QUICK, "--pairs", "t.csv", "-o", "other", "--json")
    (failed,) = json.loads(ran.out)["failed"]
    assert ran.code == 7 and failed["name"] == "roi" and "leave out --roi" in failed["error"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--device", "nonsense"), 2, "--device nonsense"),
        (("--device", "cuda:99"), 6, "cuda:99"),
        (("--precision", "fp8"), 2, "--precision fp8"),
        (("--set", "passes=none-such"), 2, "passes"),
        (("-w", "nothing-like-it"), 4, "nothing-like-it"),
        (("--initial", "gone.mat"), 3, "gone.mat"),
    ],
)
def test_a_rehearsal_checks_what_all_pairs_share(
    more: tuple[str, ...], code: int, words: str, tiny: dict[str, Path], regtool: Program,
    tmp_path: Path,
) -> None:  # fmt: skip
    write_table(tmp_path / "t.csv", [("p", tiny)])
    ran = regtool("register", *METHOD, "--pairs", "t.csv", "-o", "out", "--dry-run", *more)
    assert (ran.code, ran.out) == (code, "") and words in ran.err
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_names_every_pair_that_would_fail(
    tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(tiny["fixed"].read_bytes()[:200])
    none = tmp_path / "none.nii.gz"
    rows = [
        ("broken", {**tiny, "fixed": broken}),
        ("good", tiny),
        ("gone", {**tiny, "moving": none, "fixed_labels": none}),
    ]
    write_table(tmp_path / "t.csv", rows, "fixed_labels")
    ran = regtool("register", *METHOD, "--pairs", "t.csv", "-o", "out", "--dry-run", "--device",
                  "cpu")  # fmt: skip
    plan = json.loads(ran.out)
    assert ran.code == 7 and plan["to_do"] == ["good"]
    assert plan["weights"]["name"] == "voxelmorph-acdc-2d" and plan["device"] == "cpu"
    assert set(plan["failing"]) == {"broken", "gone"}
    assert plan["failing"]["gone"] == f"{none}: no such file"
    assert ran.err.splitlines()[-1] == "regtool: error: 2 pairs would fail"
    write_table(tmp_path / "t.csv", [("p", {**tiny, "fixed_mask": tiny["fixed_labels"]})],
                "fixed_mask")  # fmt: skip
    ran = regtool("register", *METHOD, "--pairs", "t.csv", "-o", "out", "--dry-run")
    assert ran.code == 7 and "does not use masks" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_page_replaces_an_earlier_one_and_nothing_else(
    tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", [("p", tiny)])
    page = tmp_path / "all.html"
    page.write_text("<html>my notes, by regtool</html>")
    args = ("register", *QUICK, "--pairs", "t.csv", "-o", "out", "--report", "all.html")
    ran = regtool(*args)
    assert ran.code == 8 and "all.html: exists already" in ran.err
    assert regtool(*args, "--dry-run").code == 8
    assert page.read_text().startswith("<html>my notes") and not (tmp_path / "out").exists()
    regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "r_", "--report",
            "pair.html").ok()  # fmt: skip
    assert regtool(*args[:-1], "pair.html").code == 8, "nor the page of a pair"
    regtool(*args, "--overwrite").ok()
    first = page.read_text(encoding="utf-8")
    write_table(tmp_path / "t.csv", [("p", tiny), ("added", tiny)])
    regtool(*args).ok()
    assert "added" in page.read_text(encoding="utf-8") and "added" not in first


@pytest.mark.parametrize(
    ("mistake", "code"),
    [(("--initial", "afine"), 2), (("--precision", "fp8"), 2), (("--device", "cuda:77"), 6)],
)
def test_what_would_stop_all_pairs_is_one_error(
    mistake: tuple[str, str], code: int, tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", [("p", tiny), ("q", tiny)])
    for more in ((), ("--dry-run",)):
        ran = regtool("register", *QUICK, "--pairs", "t.csv", "-o", "out", *mistake, *more)
        assert ran.code == code and ran.err.startswith(f"regtool: error: {' '.join(mistake)}: ")
    assert not (tmp_path / "out").exists()


def test_a_wrong_setting_of_the_pairs_names_the_option(regtool: Program) -> None:
    ran = regtool("register", *METHOD, "--pairs", "phantom:heart2d?fixd=ed", "-o", "out")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "regtool: error: --pairs phantom:heart2d: unknown setting 'fixd'; use n, seed, size\n"
    )
