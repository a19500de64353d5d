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
from regtool.record import input_path, read_record, sha256


def wrong_side(
    subject: str | Path, links: Sequence[Link], inverse: bool, volume: Volume | None = None
) -> tuple[str, ...]:
    """A warning where the subject is what the other direction of its record is for.

    An image (``volume``, as read from ``subject``) goes from the moving to the fixed side,
    landmarks the other way round; ``inverse`` swaps both. Files are told by their path, images also
    by the recorded hash, which is only computed where the grid is the recorded one.
    """
    path = record_of(links[0] if inverse else links[-1])
    if path is None:
        return ()
    try:
        record = read_record(path)
    except InputError:
        return ()  # whoever reads the transforms says so, if it matters
    right, wrong = ("fixed", "moving") if inverse == (volume is not None) else ("moving", "fixed")
    file = expanded(subject)
    kinds = ("_points",) if volume is None else ("", "_labels", "_mask")
    if any(_names(path, record, right + kind, file) for kind in kinds):
        return ()
    found = next((kind for kind in kinds if _names(path, record, wrong + kind, file)), None)
    if found is None and volume is not None and _is(path, record, wrong, right, file, volume):
        found = ""
    if found is None:
        return ()
    what = f"the {wrong} {found.removeprefix('_') or 'image'} of {path}"
    where = "going without --inverse" if inverse else "--inverse"
    return (f"{subject}: is {what}; did you mean {where}?",)


def _names(path: Path, record: Mapping[str, Any], name: str, file: Path) -> bool:
    """Whether a record names a file as one of its inputs."""
    with contextlib.suppress(InputError):
        found = input_path(path, record, name)
        return found is not None and same_file(found, file)
    return False


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
