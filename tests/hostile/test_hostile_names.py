"""File names that are not UTF-8, as old archives hold them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_seeds import METHOD, STEPS

from regtool.engine.chain import read_chain
from regtool.engine.register import register
from regtool.engine.repeat.rerun import requested
from regtool.imaging.image_write import write_image
from regtool.record import read_record
from regtool.spatial.grid import Grid

NAME = os.fsdecode(b"b\xe9at.nii.gz")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with an image of that name."""
    import numpy as np

    grid = Grid((12, 10), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    image = np.random.default_rng(0).random(grid.shape, dtype=np.float32)
    try:
        write_image(tmp_path / NAME, image, grid)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return tmp_path


def test_a_record_holds_the_name(odd: Path) -> None:
    result = register(odd / NAME, odd / NAME, METHOD, output=str(odd / "r_"), settings=[STEPS],
                      threads=1, report=odd / "page.html")  # fmt: skip
    record = result.outputs["regtool.json"]
    assert json.loads(record.read_text(encoding="utf-8"))["fixed"]["path"].endswith(NAME)
    assert requested(record, read_record(record)).fixed == str(odd / NAME)
    assert len(read_chain([str(record)]).transforms) == 2


def test_the_program_says_it(odd: Path) -> None:
    command = [sys.executable, "-m", "regtool.cli.app", "register", NAME, NAME, "-m", METHOD,
               "--set", STEPS, "-o", "r_", "--dry-run", "--log-file", "log.txt"]  # fmt: skip
    done = subprocess.run(command, cwd=odd, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert json.loads(done.stdout)
