"""Hundreds and ten thousand pairs in one command: memory, a kill in the middle, what is told."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest
from load_cases import Place
from load_checks import KILLED_AT, MIB, PAIRS, Twice, check_files, check_memory


def test_it_was_hit_in_the_middle(twice: Twice) -> None:
    assert twice.killed.code == -signal.SIGKILL
    assert 0 < len(twice.there) < KILLED_AT


def test_no_pair_is_done_twice(twice: Twice) -> None:
    assert twice.rest.code == 0, twice.rest.err
    after = twice.place.complete()
    assert len(after) == PAIRS
    assert all(after[name] == when for name, when in twice.there.items())
    assert max(twice.rest.memory) <= PAIRS - len(twice.there), "calls of the method"
    check_files(twice.place, PAIRS)


def test_the_summary_counts_both_runs(twice: Twice) -> None:
    summary = twice.place.summary()
    assert (summary["pairs"], summary["skipped"]) == (PAIRS, len(twice.there))
    assert summary["done"] == PAIRS - len(twice.there)
    assert summary["failed"] == []


def test_memory_is_that_of_the_first_pairs(twice: Twice) -> None:
    check_memory(twice.rest, 20, max(twice.rest.memory))


def test_the_page_shows_all(twice: Twice) -> None:
    page = twice.place.folder / "all.html"
    text = page.read_text("utf-8")
    assert all(f"p{k:05d}" in text for k in range(PAIRS))
    assert page.stat().st_size < 2 * MIB


@pytest.mark.slow
def test_ten_thousand(tmp_path: Path) -> None:
    count = 10_000
    place = Place.make(tmp_path, count)
    assert place.register(kill=1000).code == -signal.SIGKILL
    there = place.complete()
    assert 900 < len(there) < 1000
    rest = place.register("--report", "all.html", every=500)
    assert rest.code == 0, rest.err
    after = place.complete()
    assert len(after) == count
    assert all(after[name] == when for name, when in there.items())
    assert max(rest.memory) <= count - len(there)
    check_files(place, count)
    check_memory(rest, 1000, 9000)
    assert (tmp_path / "all.html").stat().st_size < 20 * MIB
    told = place.run(["evaluate", str(place.out), "--csv", "t.csv", "--metrics", "ncc", "--json"])
    assert told.code == 0, told.err
    with (tmp_path / "t.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == count
    assert json.loads(told.out)
