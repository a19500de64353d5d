"""Targets: tables of pairs, of evaluations, of labels, of landmarks, of tracings."""

from __future__ import annotations

import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_mutation import WORDS, lines
from fuzz_seeds import METHOD, Seeds
from fuzz_target import Target

from regtool.data.pairs_table import read_pairs
from regtool.data.tracings import area, fill, read_tracings
from regtool.engine.cohort.plan import plan
from regtool.engine.evaluate.items import collect
from regtool.engine.evaluate.names import read_names
from regtool.engine.evaluate.settings import parse_structures
from regtool.engine.request import Request
from regtool.imaging.points import read_points, write_points

BESIDE = ("fixed.nii.gz", "moving.nii.gz", "labels.nii", "pair_regtool.json")


def _of(*names: str) -> Any:
    def make(rng: Random, seeds: Seeds) -> bytes:
        return lines(rng, seeds.bytes[rng.choice(names)].decode())

    return make


def _suffixed(path: Path, data: bytes, *suffixes: str) -> Path:
    right = path.with_suffix(suffixes[zlib.crc32(data) % len(suffixes)])
    return path.replace(right)


def _read_pairs(path: Path, data: bytes) -> None:
    table = _suffixed(path, data, ".csv", ".tsv", ".csv")
    template = Request("", "", METHOD)
    for files in (True, False):
        for item in plan(read_pairs(table, files), template, Path("out")):
            target = Path(str(item.request.output) + "x")
            assert target.parent == Path("out"), f"{item.name!r} leaves the output folder"


def _read_items(path: Path, data: bytes) -> None:
    collect([_suffixed(path, data, ".csv", ".tsv")])


def _read_names(path: Path, data: bytes) -> None:
    names = read_names(_suffixed(path, data, ".csv", ".txt"))
    assert all(type(key) is int for key in names)
    parse_structures(["both=1+LV"], None, {**names, 1: "LV"})


def _read_points(path: Path, data: bytes) -> None:
    file = _suffixed(path, data, ".csv", ".fcsv", ".csv")
    landmarks = read_points(file, (None, 2, 3)[len(data) % 3])
    assert np.isfinite(landmarks.points).all()
    assert len(landmarks.names) == len(landmarks.points)
    again = Path("out/again" + file.suffix)
    write_points(again, landmarks.points, landmarks)


def _read_tracings(path: Path, data: bytes) -> None:
    tracings = read_tracings(path)
    for video, frames in tracings.outlines.items():
        tracings.extremes(video)
        for outline in list(frames.values())[:2]:
            area(outline)
            fill(outline, (12, 16))


def text() -> Any:
    """Any text of lines and cells, for hypothesis."""
    from hypothesis import strategies as st

    cell = st.one_of(st.text(max_size=12), st.sampled_from([w for w in WORDS if len(w) < 100]),
                     st.sampled_from(["fixed", "moving", "x", "y", "z", "label", "name", "record",
                                      "fixed.nii.gz", "1", "2.5"]))  # fmt: skip
    row = st.lists(cell, max_size=6).map(",".join)
    return st.lists(row, max_size=6).map(
        lambda rows: "\n".join(rows).encode("utf-8", "surrogatepass")
    )


TARGETS = (
    Target("pairs table", _of("pairs.csv"), _read_pairs, "in.table", 17, BESIDE, text),
    Target("evaluation table", _of("evaluate.csv"), _read_items, "in.table", 13, BESIDE, text),
    Target("label table", _of("names.csv", "freesurfer.txt", "snap.txt"), _read_names, "in.table",
           14, (), text),
    Target("landmarks", _of("points.csv", "flat.csv", "points.fcsv"), _read_points, "in.table", 14,
           (), text),
    Target("tracings", _of("tracings.csv"), _read_tracings, "in.csv", 12, (), text),
)  # fmt: skip
