"""Pairs out of a collection of scans that has none: which scans meet, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from regtool.data.cases import Case, PairCase, Split
from regtool.data.settings import Setting

T = TypeVar("T")

COUNT = Setting(100, ("all",), 1, help="training pairs")
"""How many training pairs; they are prepared and kept in memory."""
VAL_COUNT = Setting(30, ("all",), 1, help="validation pairs")
"""How many validation pairs."""
SEED = Setting(0, (), 0, help="another choice of pairs")


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


def among(
    scans: Sequence[Scan],
    count: str | int,
    seed: int,
    split: Split,
    moving: Mapping[str, Scan] | None = None,
) -> list[PairCase]:
    """``count`` (or ``all``) of the pairs of ``scans``, each pair once, in one direction.

    Scans stand on a circle in an order that depends on ``seed`` and their names; those one place
    apart are paired first, then those two apart, and so on: every scan takes part equally often
    (but for the last, unfinished round), as fixed and as moving image. With ``moving``, the moving
    scan is another of the same subject, by the name of the one in ``scans``.
    """
    circle = ranked(scans, seed)
    size = len(circle)
    most = size * (size - 1) // 2
    wanted = most if count == "all" else min(int(count), most)
    steps = [(place, apart) for apart in range(1, size // 2 + 1) for place in range(size)]
    pairs = []
    for place, apart in steps[:wanted]:
        other = circle[(place + apart) % size]
        pairs.append(couple(circle[place], moving[other.name] if moving else other, split))
    return pairs


def across(
    fixed: Sequence[Scan], moving: Sequence[Scan], count: str | int, seed: int, split: Split
) -> list[PairCase]:
    """``count`` (or ``all``) of the pairs of a fixed and a moving scan.

    Each fixed scan meets another moving one in every round, so that few pairs are many scans.
    """
    ends = ranked(moving, seed)
    size = len(ends)
    steps = [(place, turn) for turn in range(size) for place in range(len(fixed))]
    return [
        couple(fixed[place], ends[(turn + place) % size], split)
        for place, turn in first(steps, count)
    ]


def first(items: Sequence[T], count: str | int) -> Sequence[T]:
    """The first ``count`` items, or ``all``."""
    return items if count == "all" else items[: int(count)]


def ranked(scans: Sequence[Scan], seed: int) -> list[Scan]:
    """The scans in an order made from ``seed`` and their names alone."""
    return sorted(scans, key=lambda s: _rank(s.name, seed))


def ranked_pairs(pairs: Sequence[PairCase], seed: int) -> list[PairCase]:
    """The pairs in an order made from ``seed`` and their names alone."""
    return sorted(pairs, key=lambda p: _rank(p.name, seed))


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
