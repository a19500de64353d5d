"""Sentences about the result of a registration, where it gives reason to look twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.engine import measure
from regtool.engine.companions import DOUBT, labels_of, unlike_air
from regtool.engine.request import Inputs, Request
from regtool.imaging.resample import resample
from regtool.imaging.transforms import Transform
from regtool.metrics.similarity import NOISE

FALL = 1e-3
"""A fall of the mean Dice that is worth a word."""

SEEN = 0.02
"""Part of an image that is seen at once."""


def got_worse(similarity: dict[str, dict[str, float]]) -> str | None:
    """What to say where the images are less alike than before."""
    local = similarity["local_ncc"]
    if local["after"] >= local["before"] - NOISE:
        return None
    return (
        f"the similarity got worse: local NCC {local['before']:.3f} before, "
        f"{local['after']:.3f} after; look at the result before you use it"
    )


def _no_label_arrived(inputs: Inputs, labels: NDArray[Any] | None) -> str | None:
    given = inputs.moving_labels
    if given is None or labels is None or labels.any() or not given.array.any():
        return None
    return f"{given.name}: no label reaches the fixed image, WarpedLabels is empty; {DOUBT}"


def overlap_warning(
    inputs: Inputs, dice: dict[str, Any] | None, labels: NDArray[Any] | None
) -> str | None:
    """What the Dice, or the warped labels, say of labels or of the result, if nothing good."""
    if dice is None:
        return _no_label_arrived(inputs, labels)
    before, after = (dice[when]["mean"] for when in ("before", "after"))
    if before is None and after is None:
        return f"no label lies on the fixed image, so there is no Dice; {DOUBT}"
    if before == 0 == after:
        one, other = inputs.fixed_labels, inputs.moving_labels
        assert one is not None and other is not None
        if not labels_of(one) & labels_of(other):
            return None  # said before it ran
        return f"the labels overlap nowhere, before or after; {DOUBT}"
    if before is None or after is None or after >= before - FALL:
        return None
    return (
        f"the overlap got worse: mean Dice {before:.3f} before, {after:.3f} after; look at the "
        "result before you use it"
    )


def exchanged(inputs: Inputs, chain: list[Transform], dice: dict[str, Any] | None) -> str:
    """A question where the labels of the two images fit better the other way round."""
    one, other = inputs.fixed_labels, inputs.moving_labels
    if one is None or other is None or dice is None or not dice["after"]["mean"]:
        return ""
    swapped = replace(inputs, fixed_labels=other, moving_labels=one)
    warped = resample(one, inputs.fixed.grid, chain, "nearest")
    found = measure.overlap(swapped, warped)
    fits = 0.0 if found is None else found["after"]["mean"] or 0.0
    if fits <= dice["after"]["mean"]:
        return ""
    return f" (exchanged {fits:.3f}: are the labels swapped?)"


def beyond(request: Request, inputs: Inputs, warped: NDArray[Any]) -> str | None:
    """What to say where zeros beyond the moving image stand out, as they do among Hounsfield units.

    Interpolation seldom gives zero exactly, so zeros that the moving image lacks are beyond it.
    """
    moving = inputs.moving.array
    if request.fill or not unlike_air(0.0, float(moving.min()), float(moving.max())):
        return None
    share = float(np.mean(warped == 0))
    if share < SEEN or float(np.mean(moving == 0)) > share / 2:
        return None
    return (
        f"{share:.0%} of the warped image lie beyond {inputs.moving.name} and are 0; "
        "--fill VALUE gives them another intensity (CT: -1000)"
    )


def unreadable_elsewhere(request: Request, inputs: Inputs) -> list[str]:
    """ITK takes a field of one slice for 2-D and puts it at z = 0, with the plane's normal along z.

    ANTs then finds every point outside the field and applies the affine alone, without a word.
    """
    grid = inputs.fixed.grid
    if request.output is None or request.composite or not inputs.fixed.is_one_slice:
        return []
    if abs(grid.origin[2]) <= 0.5 and abs(abs(grid.direction[8]) - 1) < 1e-6:
        return []
    return [
        f"{inputs.fixed.name}: ITK and ANTs place the field of a one-slice volume at z = 0 and "
        "would ignore this one; for them add --composite and use Composite.h5"
    ]
