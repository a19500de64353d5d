"""Pairs out of a collection of scans that has none: which scans meet, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from regtool.data.cases import Case, PairCase, Split
from regtool.data.settings import Setting

COUNT = Setting(100, ("all",), 1)
"""How many training pairs; they are prepared and kept in memory."""
VAL_COUNT = Setting(30, ("all",), 1)
"""How many validation pairs."""
SEED = Setting(0, (), 0)


@dataclass(frozen=True)
class Scan:
    """One scan of a collection; ``name`` is unique in it and safe as a file name."""

    name: str
    case: Case
    split: Split
    subject: str


def couple(fixed: Scan, moving: Scan, split: Split) -> PairCase:
    """The pair ``MOVING_to_FIXED``; its subject is that of the fixed scan."""
    name = f"{moving.name}_to_{fixed.name}"
    return PairCase(name, fixed.case, moving.case, split, fixed.subject)


def among(scans: Sequence[Scan], count: str | int, seed: int, split: Split) -> list[PairCase]:
    """``count`` (or ``all``) of the pairs of ``scans``, each pair once, in one direction.

    Scans stand on a circle in an order that depends on ``seed`` and their names; those one place
    apart are paired first, then those two apart, and so on: every scan takes part equally often
    (but for the last, unfinished round), as fixed and as moving image.
    """
    circle = ranked(scans, seed)
    size = len(circle)
    most = size * (size - 1) // 2
    wanted = most if count == "all" else min(int(count), most)
    steps = [(place, apart) for apart in range(1, size // 2 + 1) for place in range(size)]
    return [
        couple(circle[place], circle[(place + apart) % size], split)
        for place, apart in steps[:wanted]
    ]


def across(
    fixed: Sequence[Scan], moving: Sequence[Scan], count: str | int, seed: int, split: Split
) -> list[PairCase]:
    """``count`` (or ``all``) of the pairs of a fixed and a moving scan.

    Each fixed scan meets another moving one in every round, so that few pairs are many scans.
    """
    ends = ranked(moving, seed)
    size = len(ends)
    steps = [(place, turn) for turn in range(size) for place in range(len(fixed))]
    wanted = len(steps) if count == "all" else int(count)
    return [
        couple(fixed[place], ends[(turn + place) % size], split) for place, turn in steps[:wanted]
    ]


def ranked(scans: Sequence[Scan], seed: int) -> list[Scan]:
    """The scans in an order made from ``seed`` and their names alone."""
    return sorted(scans, key=lambda s: hashlib.sha256(f"{seed}/{s.name}".encode()).hexdigest())
