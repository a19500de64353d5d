"""What ``regtool.register`` and records may ask for: kinds of values, before anything is read."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regtool
from regtool.engine.request import Request
from regtool.engine.request_checks import _CHECKS
from regtool.errors import UsageError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"topology": "repiar"}, "topology: needs one of off, report, repair, not 'repiar'"),
        ({"seed": "x"}, "seed: needs a whole number"),
        ({"seed": True}, "seed"),
        ({"seed": 2**40}, "seed"),
        ({"settings": [1]}, "settings"),
        ({"settings": "steps=2"}, "settings"),
        ({"initial": 5}, "initial"),
        ({"refine": "50"}, "refine"),
        ({"threads": 0}, "threads"),
        ({"fixed_mask": 7}, "fixed_mask"),
        ({"fixed_points": [[1.0, 2.0]]}, "fixed_points: needs landmarks: a file or an array"),
        ({"weights": 5}, "weights"),
        ({"inverse": "no"}, "inverse: needs True or False"),
        ({"shear": 1}, "shear"),
    ],
)
def test_values_of_another_kind_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        regtool.register("fixed.nii", "moving.nii", "rigid", **given)


def test_values_that_fit() -> None:
    Request("f.nii", Path("m.nii"), seed=np.int64(3), settings={"a": 1}, refine=None, threads=2,
            fixed_points=np.zeros((2, 3)), weights=Path("w"), topology="off")  # fmt: skip


def test_every_field_is_checked() -> None:
    assert set(_CHECKS) == {field.name for field in fields(Request)}
