"""Whether what goes through a record comes from the side that the record takes it from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regtool.engine.chain import recorded_grid
from regtool.engine.links import Link, record_of
from regtool.errors import InputError
from regtool.imaging.destination import same_file
from regtool.imaging.volume import Volume
from regtool.paths import expanded
from regtool.record import (
    INVERSE_WARPED,
    LABELS,
    WARPED,
    input_path,
    output_path,
    read_record,
    sha256,
)

_INPUTS = ("image", "labels", "mask", "points")
_WARPED = {
    "fixed": {WARPED: "warped image", LABELS: "warped labels"},
    "moving": {INVERSE_WARPED: "inversely warped image"},
}
"""Outputs that lie on a side."""


def wrong_side(
    subject: str | Path, links: Sequence[Link], inverse: bool, volume: Volume | None = None
) -> tuple[str, ...]:
    """A warning where the subject is what the other direction of its record is for.

    An image (``volume``, as read from ``subject``) goes from the moving to the fixed side,
    landmarks the other way round; ``inverse`` swaps both. Files are told by their path, images also
    by the recorded hash, which is only computed where the grid is the recorded one.
    """
    link = links[0] if inverse else links[-1]
    path = record_of(link)
    if path is None:
        return ()
    try:
        record = read_record(path)
    except InputError:
        return ()  # whoever reads the transforms says so, if it matters
    sides = ["moving", "fixed"]
    if (volume is None) != (inverse != link.back):
        sides.reverse()
    right, wrong = sides
    file = expanded(subject)
    if any(same_file(other, file) for other in _files(path, record, right)):
        return ()
    named = _files(path, record, wrong).items()
    what = next((what for other, what in named if same_file(other, file)), None)
    if what is None and volume is not None and _is(path, record, wrong, right, file, volume):
        what = f"{wrong} image"
    if what is None:
        return ()
    is_ = "are" if what.endswith("s") else "is"
    remedy = "going without --inverse" if inverse else "--inverse"
    if link.back and not inverse:
        remedy = f"-t {path}"
    return (f"{subject}: {is_} the {what} of {path}; did you mean {remedy}?",)


def _files(path: Path, record: Mapping[str, Any], side: str) -> dict[Path, str]:
    """The files of a record that lie on a side, and what they are."""
    found: dict[Path, str] = {}
    for kind in _INPUTS:
        with contextlib.suppress(InputError):
            name = input_path(path, record, side if kind == "image" else f"{side}_{kind}")
            if name is not None:
                found[name] = f"{side} {kind}"
    for role, what in _WARPED[side].items():
        with contextlib.suppress(InputError):
            found[output_path(path, record, role)] = what
    return found


def _is(
    path: Path, record: Mapping[str, Any], wrong: str, right: str, file: Path, volume: Volume
) -> bool:
    """Whether an image has the bytes of the one of a record, and not those of the other."""
    digests = []
    for name in (wrong, right):
        facts = record.get(name)
        digests.append(facts.get("sha256") if isinstance(facts, Mapping) else None)
    if volume.kind != "scalar" or digests[0] is None or digests[0] == digests[1]:
        return False
    with contextlib.suppress(InputError):
        same = volume.grid.same_as(recorded_grid(path, record, wrong))
        return same and sha256(file) == digests[0]
    return False
