"""Runs side by side: the same pairs registered in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from regtool.metrics.statistics import paired_test

Key = tuple[Any, Any]


def compare(pairs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Wilcoxon's paired test of every number of each run against the first run.

    ``pairs`` as from ``evaluate_record``; those of two runs belong together when their fixed and
    moving images are the same files (by hash). Differences are run minus reference. ``unmatched``
    counts by run what has no partner, ``repeated`` what registers the same images twice in one run,
    so that nobody can say which to compare. None with fewer than two runs.
    """
    runs: dict[str, dict[Key, list[dict[str, Any]]]] = {}
    for pair in pairs:
        runs.setdefault(pair["run"], {}).setdefault(_key(pair), []).append(pair["after"])
    if len(runs) < 2:
        return None
    repeated = {run: sum(len(m) for m in found.values() if len(m) > 1)
                for run, found in runs.items()}  # fmt: skip
    single = {
        run: {key: members[0] for key, members in found.items() if len(members) == 1}
        for run, found in runs.items()
    }
    (reference, first), *others = single.items()
    unmatched = {reference: len(first.keys() - {key for _, found in others for key in found})}
    tests = {}
    for run, found in others:
        both = [key for key in first if key in found]
        unmatched[run] = len(found) - len(both)
        tests[run] = _tests([first[key] for key in both], [found[key] for key in both])
    return {"reference": reference, "tests": tests, "unmatched": unmatched, "repeated": repeated}


def _tests(
    first: Sequence[dict[str, float]], second: Sequence[dict[str, float]]
) -> dict[str, dict[str, float | None]]:
    """The test of every number that both have, by its key."""
    result = {}
    for name in dict.fromkeys(key for values in second for key in values):
        shared = [
            (a[name], b[name])
            for a, b in zip(first, second, strict=True)
            if name in a and name in b
        ]
        test = paired_test([a for a, _ in shared], [b for _, b in shared])
        if test is not None:
            result[name] = test.as_dict()
    return result


def _key(pair: dict[str, Any]) -> Key:
    return tuple(pair[f"{role}_sha256"] or pair[role] for role in ("fixed", "moving"))
