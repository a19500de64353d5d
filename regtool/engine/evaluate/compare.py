"""Runs side by side: the same pairs registered in several ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from regtool.metrics.statistics import paired_test, summarise

Key = tuple[Any, Any]


def compare(pairs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Runs on the pairs that all of them have: means, and Wilcoxon's test against the first run.

    ``pairs`` as from ``evaluate_record``; those of different runs belong together when their fixed
    and moving images are the same files (by hash). ``before``: every number of the images as they
    were, from the first run; ``summary``: by run, every number after registration. ``tests``:
    differences are run minus reference. ``unmatched`` counts by run what some other run lacks,
    ``repeated`` what registers the same images twice in one run, so that nobody can say which to
    compare. None with fewer than two runs.
    """
    runs: dict[str, dict[Key, list[dict[str, Any]]]] = {}
    for pair in pairs:
        runs.setdefault(pair["run"], {}).setdefault(_key(pair), []).append(pair)
    if len(runs) < 2:
        return None
    single = {
        run: {key: members[0] for key, members in found.items() if len(members) == 1}
        for run, found in runs.items()
    }
    reference, *others = single
    common = [key for key in single[reference] if all(key in found for found in single.values())]
    shared = {run: [found[key]["after"] for key in common] for run, found in single.items()}
    return {
        "reference": reference,
        "pairs": len(common),
        "before": summary([single[reference][key]["before"] for key in common]),
        "summary": {run: summary(found) for run, found in shared.items()},
        "tests": {run: _tests(shared[reference], shared[run]) for run in others},
        "unmatched": {run: len(found) - len(common) for run, found in single.items()},
        "repeated": {
            run: sum(len(members) for members in found.values() if len(members) > 1)
            for run, found in runs.items()
        },
    }


def repeated(pairs: Sequence[dict[str, Any]]) -> int:
    """How many pairs of images, told by hash, were registered more than once in one run."""
    counts = Counter((pair["run"], _key(pair)) for pair in pairs)
    return sum(count > 1 for count in counts.values())


def summary(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Summaries of every number of some pairs, by key.

    The means over structures also have ``pooled_sd``: the SD over all cases and structures
    together, which DiffuseMorph, FSDiffReg and DiffuseReg print (METHODS 2.5).
    """
    result: dict[str, Any] = {}
    for key in dict.fromkeys(k for values in found for k in values):
        one = summarise(values[key] for values in found if key in values)
        if one is not None:
            result[key] = one.as_dict()
    for key in result:
        parts = [v for values in found for k, v in values.items() if k.startswith(f"{key}:")]
        pooled = summarise(parts)
        if pooled is not None:
            result[key]["pooled_sd"] = pooled.sd
    return result


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
