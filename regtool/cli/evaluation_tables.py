"""Tables of ``regtool evaluate``, and the remarks that go with them."""

from __future__ import annotations

import math
from typing import Any

from regtool.cli.common import log
from regtool.cli.tables import print_table
from regtool.engine.evaluate.settings import TITLES

_DIGITS = {"hd95": 2, "tre": 2, "tre_median": 2, "tre_max": 2, "psnr": 2, "seconds": 1}
_SIGNIFICANT = ("mse", "nmse", "folds", "inverse_error", "inverse_error_max")
STRUCTURES = 40
"""More structures than these are left to JSON and CSV."""
LISTED = 20
"""Failed pairs that are named on stderr; all are in the JSON and the CSV."""


def print_evaluation(result: dict[str, Any]) -> None:
    """One pair: before and after. More: mean (SD) and median; several runs side by side."""
    if not result["pairs"]:
        return
    keys = _keys(result)
    if len(result["pairs"]) == 1 and not result["failed"]:
        _print_pair(result["pairs"][0], keys, result)
    elif len(result["summary"]) == 1:
        _print_summary(result, keys)
    else:
        _print_runs(result, keys)


def print_series(result: dict[str, Any]) -> None:
    """Frames, and mean (SD) of those in between."""
    rows: list[tuple[str, ...]] = [
        (str(f["real"]), str(f["generated"]), number("psnr", f["psnr"]), number("nmse", f["nmse"]))
        for f in result["frames"]
    ]
    means = [spread(key, result["summary"].get(key)) for key in ("psnr", "nmse")]
    rows.append(("between", "mean (SD)", *means))
    print_table(rows, ("real frame", "generated", "PSNR (dB)", "NMSE"))


def tell(result: dict[str, Any]) -> None:
    """Log remarks and failures; the data itself goes to stdout."""
    for sentence in result["notes"]:
        log.warning("%s", sentence)
    for pair in result["pairs"]:
        for sentence in pair["notes"]:
            log.warning("%s: %s", pair["name"], sentence)
    structures = {key for pair in result["pairs"] for key in pair["after"] if ":" in key}
    count = len({key.partition(":")[2] for key in structures})
    if count > STRUCTURES:
        log.info("%d structures: --json and --csv have each of them", count)
    if any("labels" in pair["details"] for pair in result["pairs"]):
        log.info("labels warped with: %s", result["settings"]["label_interpolation"])
    comparison = result["comparison"] or {"unmatched": {}, "repeated": {}}
    if not result["comparison"]:
        _tell_repeated(result["pairs"])
    for run, count in comparison["unmatched"].items():
        if count:
            what = "1 pair is" if count == 1 else f"{count} pairs are"
            log.warning("%s: %s not in every run and not compared", run or "(no name)", what)
    for run, count in comparison["repeated"].items():
        if count:
            log.warning(
                "%s: %d records share their images; not compared", run or "(no name)", count
            )
    for one in result["failed"][:LISTED]:
        log.error("%s: %s", one["name"], one["error"])
    if len(result["failed"]) > LISTED:
        log.error("and %d more; see --json or --csv", len(result["failed"]) - LISTED)


def _tell_repeated(pairs: list[dict[str, Any]]) -> None:
    """Warn where the mean is over several registrations of the same images."""
    from regtool.engine.evaluate.compare import repeated

    count = repeated(pairs)
    if count:
        what = "1 pair occurs" if count == 1 else f"{count} pairs occur"
        log.warning("%s more than once; for runs side by side use --compare", what)


def number(key: str, value: float | None) -> str:
    """A number with the digits that suit its metric."""
    metric = key.partition(":")[0]
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if metric in _SIGNIFICANT:
        return f"{value:.3g}"
    return f"{value:.{_DIGITS.get(metric, 4)}f}"


def spread(key: str, summary: dict[str, float] | None) -> str:
    """Mean (SD)."""
    if summary is None:
        return "-"
    return f"{number(key, summary['mean'])} ({number(key, summary['sd'])})"


def _keys(result: dict[str, Any]) -> list[str]:
    """Numbers in the order of their titles, means before their structures."""
    found = dict.fromkeys(key for pair in result["pairs"] for key in pair["after"])
    few = len({key.partition(":")[2] for key in found if ":" in key}) <= STRUCTURES
    return [
        key
        for metric in TITLES
        for key in found
        if key == metric or (few and key.startswith(f"{metric}:"))
    ]


def _title(key: str, result: dict[str, Any]) -> str:
    metric, colon, structure = key.partition(":")
    if colon:
        return f"  {structure}"
    title = TITLES[metric]
    if metric == "dice" and (groups := result["settings"]["structures"]):
        title += f", mean of {len(groups)}"
    if metric == "surface_dice":
        title += f" at {result['settings']['surface_tolerance_mm']:g} mm"
    if metric in ("folds", "sd_jacobian", "sd_log_jacobian"):
        title += f", {result['settings']['jacobian_differences']}"
    return title


def _print_pair(pair: dict[str, Any], keys: list[str], result: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = [
        (_title(key, result), number(key, pair["before"].get(key)), number(key, pair["after"][key]))
        for key in keys
    ]
    print_table(rows, (pair["name"], "before", "after"))


def _print_summary(result: dict[str, Any], keys: list[str]) -> None:
    (summary,) = result["summary"].values()
    rows = []
    for key in keys:
        after, before = summary["after"].get(key), summary["before"].get(key)
        median = "-" if after is None else number(key, after["median"])
        count = "0" if after is None else str(after["n"])
        rows.append((_title(key, result), count, spread(key, before), spread(key, after), median))
    print_table(rows, ("metric", "n", "before, mean (SD)", "after, mean (SD)", "after, median"))


def _print_runs(result: dict[str, Any], keys: list[str]) -> None:
    """Mean (SD) before and of each run, over the pairs that all have, and the tests."""
    runs, tests = result["comparison"]["summary"], result["comparison"]["tests"]
    before = result["comparison"]["before"]
    header = ["metric", *(["before"] if before else []), *(run or "(no name)" for run in runs)]
    for run in tests:
        header += [
            f"{run or '(no name)'} - {result['comparison']['reference'] or '(no name)'}",
            "n",
            "p",
        ]
    rows = []
    for key in keys:
        row = [_title(key, result)] + ([spread(key, before.get(key))] if before else [])
        row += [spread(key, summary.get(key)) for summary in runs.values()]
        for test in tests.values():
            row += _test(key, test.get(key))
        rows.append(tuple(row))
    print_table(rows, tuple(header))


def _test(key: str, test: dict[str, float] | None) -> tuple[str, str, str]:
    if test is None:
        return "-", "0", "-"
    difference = number(key, test["mean_difference"])
    sign = "+" if test["mean_difference"] > 0 else ""
    p = "-" if test["p"] is None else f"{test['p']:.2g}"
    return sign + difference, str(test["n"]), p
