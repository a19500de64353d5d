"""What ``register`` says of its weights, its companions and its way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import QUICK, RECORD, Program, write_table
from registration_cases import (
    body,
    labels_at,
    make_grid,
    points_of,
    read_csv,
    save,
    transform,
    write_csv,
)

Pair = dict[str, Path]


def said(err: str, word: str) -> list[str]:
    """The lines in which a word stands."""
    return [line for line in err.splitlines() if word in line]


def test_weights_are_named_once(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", tiny["fixed"], tiny["moving"], "-o", "out_", "--overwrite")
    line = "regtool: voxelmorph, weights voxelmorph-acdc-2d (heart (short axis), cine MR)"
    assert said(regtool(*args).ok().err, "weights") == [line]
    assert regtool(*args, "-q").ok().err == ""
    assert said(regtool(*args, *QUICK).ok().err, "weights") == []
    write_table(tmp_path / "t.csv", [("a", tiny), ("b", tiny)])
    ran = regtool("register", "--pairs", "t.csv", "-o", "many").ok()
    assert said(ran.err, "weights") == [line]


def test_images_far_apart_earn_a_hint(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    spot = np.zeros(grid.shape, np.float32)
    spot[:4, :4] = 1
    other = save(tmp_path / "spot.nii.gz", spot, grid)
    args = ("register", *QUICK, tiny["fixed"], other, "-o", "out_", "--overwrite")
    assert said(regtool(*args).ok().err, "--initial affine")
    assert not said(regtool(*args, "--initial", "com").ok().err, "--initial affine")
    assert not said(regtool(*[a if a is not other else tiny["moving"] for a in args]).err, "--initial affine")
