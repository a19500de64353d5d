"""``register --topology repair``: the files, the record and the words after a real registration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import QUICK, Program
from fold_cases import jacobians
from registration_cases import make_grid, read_array, transform, write_pair

from regtool.engine.results import invert_field
from regtool.imaging.reading import read_labels
from regtool.imaging.resample import resample
from regtool.imaging.transforms import read_affine, read_field

FOLDING = (
    "-m", "optimise", "--set", "formulation=displacement", "--set", "smoothness=1e-4",
    "--set", "iterations=40,60", "--set", "tolerance=0",
)  # fmt: skip
REPAIR = ("--topology", "repair")


@pytest.fixture(params=["2-D", "3-D", "slices"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """Arguments that register a pair into a folded field, with labels to measure."""
    size = (32, 28) if request.param == "2-D" else (24, 22, 5)
    grid = make_grid("oblique", size, (2.0, 2.2, 7.0)[: len(size)])
    write_pair(tmp_path, grid, grid, transform(len(size), (3.0, -3.0, 0.0)), 4.0)
    slices = ("--slices", "z") if request.param == "slices" else ()
    labels = ("--fixed-labels", "fixed_labels.nii.gz", "--moving-labels", "moving_labels.nii.gz")
    return ("register", *FOLDING, *slices, "fixed.nii.gz", "moving.nii.gz", *labels)


def record(folder: Path, prefix: str) -> dict[str, Any]:
    return json.loads((folder / f"{prefix}regtool.json").read_text("utf-8"))


def test_a_real_registration_is_repaired(
    pair: tuple[str, ...], regtool: Program, tmp_path: Path
) -> None:
    regtool(*pair, "-o", "as_is_").ok()
    ran = regtool(*pair, "-o", "out_", *REPAIR, "--inverse").ok()
    before = record(tmp_path, "as_is_")
    after = record(tmp_path, "out_")
    original, grid = read_field(tmp_path / "as_is_1Warp.nii.gz")
    field, _ = read_field(tmp_path / "out_1Warp.nii.gz")
    assert before["jacobian"]["count"] > 0 and "topology" not in before

    found = jacobians(field, grid)
    assert found["central"].min() > 0 and found["corner"].min() > 0
    inner = found["central"][tuple(np.s_[1:-1] if n > 2 else np.s_[:] for n in grid.shape)]
    assert after["jacobian"]["count"] == 0
    assert after["jacobian"]["min"] == pytest.approx(inner.min(), abs=1e-4)

    told = after["topology"]
    moved = np.linalg.norm(field.astype(np.float64) - original, axis=-1)
    assert told["mode"] == "repair"
    assert told["before"]["central"] == before["jacobian"]["count"]
    assert told["before"]["corner"] >= told["before"]["central"]
    assert told["after"] == {"central": 0, "corner": 0}
    assert told["changed_voxels"] == (moved > 0).sum()
    assert told["moved_mm_max"] == pytest.approx(moved.max(), rel=1e-6)
    assert told["dice"]["before"] == before["dice"]["after"]
    assert told["dice"]["after"] == after["dice"]["after"]

    lines = [line for line in ran.err.splitlines() if "repair:" in line]
    assert len(lines) == 1 and f"{told['before']['corner']} folded corners" in lines[0]
    assert "mean Dice" in lines[0]

    labels = read_labels(tmp_path / "moving_labels.nii.gz")
    chain = [(field, grid), read_affine(tmp_path / "out_0GenericAffine.mat", grid.ndim)]
    expected = resample(labels, grid, chain, "nearest")
    assert (read_array(tmp_path / "out_WarpedLabels.nii.gz") == expected).all()
    inverse, _ = read_field(tmp_path / "out_1InverseWarp.nii.gz")
    assert (inverse == invert_field(field, grid)[0]).all()


def test_without_folds_nothing_changes(regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("oblique", (32, 28), (2.0, 2.0))
    write_pair(tmp_path, grid, grid, transform(2, (1.0, -1.0)), 1.5)
    args = ("register", *QUICK, "fixed.nii.gz", "moving.nii.gz")
    regtool(*args, "-o", "as_is_").ok()
    ran = regtool(*args, "-o", "out_", *REPAIR).ok()
    assert "repair: no folds, the field is unchanged" in ran.err
    for name in ("1Warp.nii.gz", "Warped.nii.gz"):
        as_is, out = (read_array(tmp_path / f"{p}_{name}") for p in ("as_is", "out"))
        assert as_is.tobytes() == out.tobytes()
    told = record(tmp_path, "out_")["topology"]
    assert told["before"] == told["after"] == {"central": 0, "corner": 0}
    assert told["changed_voxels"] == 0 and "dice" not in told


def test_dry_run(tiny: dict[str, Path], regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    ran = regtool(*args, *REPAIR, "--dry-run").ok()
    plain = json.loads(regtool(*args, "--dry-run").ok().out)
    assert json.loads(ran.out) == {**plain, "topology": "repair"}
    assert not list(tmp_path.glob("out_*"))
