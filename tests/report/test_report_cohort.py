"""The page of a cohort: worst first, distributions, failures, and it stays small."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_html import Page
from report_views import make_record, make_view

from regtool.errors import OutputError
from regtool.report.cases import case_of, judge, worst_first
from regtool.report.cohort import cohort_report
from regtool.report.strips import charts, quartiles

GRID = make_view().grid


def row(name: str, after: float | None, **changes: Any) -> dict[str, Any]:
    """A record of a pair with this mean Dice."""
    dice = {"before": {"mean": 0.4, "labels": {"1": 0.3, "2": 0.5}},
            "after": {"mean": after, "labels": {"1": after, "2": after}}}  # fmt: skip
    return make_record(GRID, name=name, dice=None if after is None else dice, **changes)


def test_worst_first() -> None:
    cases, by = worst_first(case_of(row(n, d)) for n, d in (("b", 0.8), ("c", 0.3), ("a", 0.8)))
    assert [c.name for c in cases] == ["c", "a", "b"] and by == "mean Dice after"
    missing = [case_of(row("none", None)), *cases]
    assert worst_first(missing)[0][0].name == "none"


def test_what_judges() -> None:
    plain = [case_of(row("x", None, tre_mm=None))] * 3
    assert judge(plain)[0] == "ncc_after"
    assert judge([case_of(row("x", None))] * 3)[:2] == ("tre_after", True)
    far = [case_of(row(str(n), None, tre_mm={"after": {"mean": float(n)}})) for n in range(3)]
    assert [c.name for c in worst_first(far)[0]] == ["2", "1", "0"]


def test_the_page(tmp_path: Path) -> None:
    rows = [row(f"pair{n}", 0.9 - 0.01 * n) for n in range(20)]
    failures = [("lost", "/data/lost.nii.gz: no such file")]
    path = cohort_report(rows, tmp_path / "c.html", failures, title="Hearts", worst=4)
    page = Page(path.read_text("utf-8"))
    page.check_self_contained()
    for wanted in ("Hearts", "20 pairs", "1 pair failed", "/data/lost.nii.gz: no such file",
                   "Mean Dice", "label 2, after", "Local NCC", "Landmark error", "Folds",
                   "ean Dice improved in 20 of 20 pairs"):  # fmt: skip
        assert wanted in page.text, wanted
    named = re.findall(r'<th scope="row">(pair\d+)</th>', page.source)
    assert named == [f"pair{n}" for n in range(19, -1, -1)]
    assert re.findall(r"<h3>(pair\d+)</h3>", page.source) == named[:4]
    assert page.text.count("no pictures") == 4
    assert re.findall(r"\w* ?NCC", page.text, re.I) and not re.search(
        r"(?<!local )NCC", page.text, re.I
    )


def test_the_page_tells_what_all_pairs_were_made_with(tmp_path: Path) -> None:
    rows = [row(f"pair{n}", 0.9, seed=n, options={"passes": 2}) for n in range(3)]
    page = Page(cohort_report(rows, tmp_path / "c.html").read_text("utf-8"))
    told = page.text.partition("Provenance")[2]
    assert "voxelmorph-acdc-3d" in told and "passes 2" in told and "torch 2.9" in told
    assert "Seed" not in told, "each has its own"
    rows[1]["options"] = {"passes": 1}
    page = Page(cohort_report(rows, tmp_path / "d.html").read_text("utf-8"))
    assert "passes" not in page.text


@pytest.mark.parametrize(
    ("percents", "says"), [((0.0, 0.5, 1.0), "2 of 3 warps have folds"), ((0.0,), "no warp has")]
)
def test_folds_are_counted_in_words(percents: tuple[float, ...], says: str, tmp_path: Path) -> None:
    rows = [row(f"pair{n}", 0.9) for n in range(len(percents))]
    for one, percent in zip(rows, percents, strict=True):
        one["jacobian"] = {**one["jacobian"], "percent": percent, "count": round(100 * percent)}
    path = cohort_report(rows, tmp_path / "c.html", [], title="Hearts", worst=1)
    assert says in Page(path.read_text("utf-8")).text


def test_quartiles_are_drawn_where_they_are() -> None:
    values = np.linspace(0.5, 0.9, 41)
    chart = charts([case_of(row(str(n), float(v))) for n, v in enumerate(values)])[0]
    after = chart.strips[1]
    assert chart.title == "Mean Dice" and after.name == "after" and after.count == 41
    assert (after.q1, after.middle, after.q3) == (60.0, 70.0, 80.0)
    assert (after.low, after.high) == (50.0, 90.0)
    places = [int(x) / 10 for x in re.findall(r"M(\d+) ", after.dots)]
    np.testing.assert_allclose(places, 100 * values, atol=0.06)
    assert quartiles([None, 1.0, 3.0]) == (1.5, 2.0, 2.5) and quartiles([None]) is None


def test_whiskers_leave_outliers_out() -> None:
    values = [0.8, 0.81, 0.82, 0.83, 0.84, 0.1]
    after = charts([case_of(row(str(n), v)) for n, v in enumerate(values)])[0].strips[1]
    assert after.low == 80.0 and after.high == 84.0 and after.dots.startswith("M100 ")


def test_hostile_rows(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    rows = [
        row(evil, 0.5, warnings=[evil], method={"name": evil}),
        row("b", 0.6),
        {"name": 3, "dice": [], "similarity": "x", "warnings": 4, "record_path": "/gone.json"},
    ]
    path = cohort_report(rows, tmp_path / "c.html", [(evil, evil)], title=evil)
    page = Page(path.read_text("utf-8"))
    assert evil not in page.source and page.text.count(evil) >= 6
    assert {link for tag, link in page.links if tag == "a"} == {"#main"}


def test_a_thousand_pairs_stay_small_and_are_not_kept(tmp_path: Path) -> None:
    class Record(dict[str, Any]):
        pass

    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    Record.__hash__ = object.__hash__  # type: ignore[assignment]
    most = 0
    random = np.random.default_rng(1)

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal most
        for n in range(1000):
            made = Record(row(f"patient{n:04d}_ED_to_patient{n:04d}_ES", float(random.uniform())))
            alive.add(made)
            most = max(most, len(alive))
            yield made

    path = cohort_report(rows(), tmp_path / "c.html")
    gc.collect()
    assert most <= 3 and len(alive) <= 1
    assert path.stat().st_size < 1_500_000
    page = Page(path.read_text("utf-8"))
    assert page.text.count("patient0999_ED_to_patient0999_ES") >= 1


def test_an_empty_cohort_and_an_existing_file(tmp_path: Path) -> None:
    path = cohort_report([], tmp_path / "c.html", [("a", "b")])
    assert "0 pairs" in Page(path.read_text("utf-8")).text
    with pytest.raises(OutputError, match="exists already"):
        cohort_report([], path)
