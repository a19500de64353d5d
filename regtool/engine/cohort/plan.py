"""Which pairs of a table are still to be registered, and by whom."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regtool.data.cases import Case, PairCase
from regtool.engine.request import Request
from regtool.errors import InputError, OutputError, UsageError
from regtool.record import SUFFIX, read_record


@dataclass(frozen=True)
class Item:
    """One pair: its request, and whether it is complete or cannot be done."""

    name: str
    request: Request
    complete: bool = False
    error: str | None = None


def plan(pairs: Sequence[PairCase], template: Request, folder: Path) -> list[Item]:
    """The pairs as requests whose files go to ``folder/NAME_...``, in their order.

    A pair whose record is there, made from the same files with the same settings, and whose files
    are all there, is complete. Files without a record are what a killed run left; they will be
    replaced. A record of other files or settings is an error of this pair unless
    ``template.overwrite``. Raises OutputError when the folder cannot be read.
    """
    present = _names(folder)
    return [_item(pair, template, folder, present) for pair in pairs]


def shard(items: Sequence[Item], which: str | None) -> list[Item]:
    """Every n-th of the pairs from the i-th on, for ``i/n`` with i from 1 to n.

    Raises UsageError for anything else.
    """
    if which is None:
        return list(items)
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", which)
    index, count = (int(n) for n in found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"--shard {which}: write i/n with i from 1 to n, as in 1/8 … 8/8")
    return list(items[index - 1 :: count])


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; -o names the output folder") from error


def _item(pair: PairCase, template: Request, folder: Path, present: set[str]) -> Item:
    request = replace(
        template,
        fixed=pair.fixed.image,
        moving=pair.moving.image,
        **_companions("fixed", pair.fixed),
        **_companions("moving", pair.moving),
        roi=pair.roi,
        output=f"{folder}{os.sep}{pair.name}_",
        overwrite=True,  # what may not be replaced is not done at all
    )
    if pair.fixed.frame is not None or pair.moving.frame is not None:
        why = f"{pair.name}: a frame of a series or video; write it to a file of its own first"
        return Item(pair.name, request, error=why)
    if not (pair.fixed.ordinary and pair.moving.ordinary):
        why = f"{pair.name}: not NIfTI files; let the reader write such, with ?nifti=FOLDER"
        return Item(pair.name, request, error=why)
    if template.overwrite:
        return Item(pair.name, request)
    name = f"{pair.name}_{SUFFIX}"
    if name not in present:
        return Item(pair.name, request)
    try:
        record = read_record(folder / name)
    except InputError:
        return Item(pair.name, request)
    other = _difference(record.get("request"), request)
    if other:
        why = (
            f"{folder / name}: made with {other}; use --overwrite or another folder to register "
            "this pair anew"
        )
        return Item(pair.name, request, error=why)
    return Item(pair.name, request, complete=_all_there(record.get("outputs"), present))


def _all_there(outputs: Any, present: set[str]) -> bool:
    """Whether a record lists files and all of them are present; a damaged list names none."""
    if not isinstance(outputs, Mapping) or not outputs:
        return False
    files = [e.get("file") if isinstance(e, Mapping) else None for e in outputs.values()]
    return all(isinstance(file, str) and file in present for file in files)


def _companions(role: str, case: Case) -> dict[str, Any]:
    return {f"{role}_labels": case.labels, f"{role}_mask": case.mask, f"{role}_points": case.points}


def _difference(recorded: Any, request: Request) -> str | None:
    """What a record was made with that the request does not ask for, in a few words."""
    asked = request.asked()
    if recorded == asked:
        return None
    if not isinstance(recorded, dict):
        return "an older regtool, which did not note its settings"
    keys = [key for key in asked if recorded.get(key) != asked[key]]
    parts = [_change(key, recorded.get(key), asked[key]) for key in keys[:3]]
    return ", ".join(parts) or "other settings"


def _change(key: str, before: Any, now: Any) -> str:
    """``seed 1 (now 2)``; of the method's options, those that differ as they are typed."""
    if key != "settings" or not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return f"{key} {before!s} (now {now!s})"
    names = [n for n in {**before, **now} if before.get(n) != now.get(n)]
    first, second = (
        " ".join(f"--set {n}={found[n]}" for n in names if n in found) or "no --set"
        for found in (before, now)
    )
    return f"{first} (now {second})"
