"""Reader of a table of pairs: CSV with the columns fixed and moving, and optional others."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from pathlib import Path
from typing import cast

from regtool.data.cases import SPLITS, Case, PairCase, Split, assign_splits, is_file_name
from regtool.errors import InputError
from regtool.paths import expanded, is_file

FILE_COLUMNS = (
    "fixed",
    "moving",
    "fixed_labels",
    "moving_labels",
    "fixed_mask",
    "moving_mask",
    "fixed_points",
    "moving_points",
    "roi",
)
COLUMNS = (*FILE_COLUMNS, "name", "split", "subject")
REQUIRED = ("fixed", "moving")

Row = dict[str, str]


def read_pairs(path: str | Path, files: bool = True) -> list[PairCase]:
    """The pairs of a CSV table (tab-separated if it ends in ``.tsv``), UTF-8, one header line.

    Columns: ``fixed``, ``moving``; optional ``fixed_labels``, ``moving_labels``, ``fixed_mask``,
    ``moving_mask``, ``fixed_points``, ``moving_points``, ``roi``, ``name``, ``split`` (train, val,
    test) and ``subject``; columns of other names are left alone. Relative paths start at the
    table's folder. Without ``name`` it is ``MOVING_to_FIXED``; without ``subject``, pairs that
    share an image belong together; without ``split``, a tenth of the subjects, chosen by name, is
    ``val``.
    Raises InputError that names line and column; with ``files`` on, also for a file that is not
    there.
    """
    table = expanded(path)
    rows = _rows(table)
    names = _names(table, rows)
    paths = [_files(table, line, row, files) for line, row in rows]
    subjects = _subjects([row for _, row in rows], paths, names)
    splits = _splits(table, rows, subjects)
    return [
        PairCase(
            name, _case("fixed", own), _case("moving", own), split, subject, roi=own.get("roi")
        )
        for name, own, split, subject in zip(names, paths, splits, subjects, strict=True)
    ]


def _rows(table: Path) -> list[tuple[int, Row]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{table}: no such table of pairs") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: not readable as UTF-8 text ({error})") from error
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, Row]] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            cells = [c.strip() for c in cells]
            if not any(cells):
                continue
            if header is None:
                header = _header(table, cells)
                continue
            if len(cells) > len(header):
                raise InputError(
                    f"{table} line {reader.line_num}: {len(cells)} cells, but the header has "
                    f"{len(header)} columns (quote paths that contain a comma)"
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise InputError(f"{table} line {reader.line_num}: malformed CSV ({error})") from error
    if not rows:
        raise InputError(f"{table}: no pairs: expected a header line (fixed,moving,…) and rows")
    return rows


def _header(table: Path, cells: list[str]) -> list[str]:
    header = [c.lower() for c in cells]
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"{table}: column {name} appears twice in the header")
    for name in header:
        close = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.8)
        if name not in COLUMNS and close and close[0] not in header:
            raise InputError(f"{table}: unknown column {name!r}; did you mean {close[0]!r}?")
    for name in REQUIRED:
        if name not in header:
            hint = "; separate columns with commas" if ";" in "".join(cells) else ""
            raise InputError(
                f"{table}: no column {name!r} in the header ({', '.join(header)}){hint}"
            )
    return header


def _files(table: Path, line: int, row: Row, check: bool) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    folder = table.parent
    for column in FILE_COLUMNS:
        value = row.get(column, "")
        if not value:
            if column in REQUIRED:
                raise InputError(f"{table} line {line}, column {column}: empty")
            continue
        path = folder / (expanded(value) if value.startswith("~") else value)
        if check and not is_file(path):
            raise InputError(f"{table} line {line}, column {column}: no such file: {path}")
        paths[column] = path
    return paths


def _case(role: str, paths: dict[str, Path]) -> Case:
    return Case(
        paths[role],
        paths.get(f"{role}_labels"),
        paths.get(f"{role}_mask"),
        paths.get(f"{role}_points"),
    )


def _stem(value: str) -> str:
    name = value.replace("\\", "/").rsplit("/", 1)[-1]
    for suffix in (".gz", ".nii", ".mha", ".nrrd"):
        name = name.removesuffix(suffix)
    return name


def _names(table: Path, rows: list[tuple[int, Row]]) -> list[str]:
    """Given names, checked; the others made from the file names, numbered where they clash."""
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row.get("name", "")
        if not name:
            continue
        if not is_file_name(name):
            raise InputError(
                f"{table} line {line}, column name: {name!r} cannot be part of a file name"
            )
        if name.casefold() in seen:
            raise InputError(
                f"{table} line {line}, column name: {name!r} is also the name of line "
                f"{seen[name.casefold()]} (case does not count)"
            )
        seen[name.casefold()] = line
    stems = [f"{_stem(r.get('moving', ''))}_to_{_stem(r.get('fixed', ''))}" for _, r in rows]
    count = Counter(s.casefold() for s in stems)
    clash = {s for s, n in count.items() if n > 1 or s in seen}
    return [
        row.get("name", "") or (f"{stem}_{number:04d}" if stem.casefold() in clash else stem)
        for number, (stem, (_, row)) in enumerate(zip(stems, rows, strict=True), start=1)
    ]


def _subjects(rows: list[Row], files: list[dict[str, Path]], names: list[str]) -> list[str]:
    """The given subjects; rows without one are grouped by the images they share."""
    parent: dict[Path, Path] = {}

    def root(path: Path) -> Path:
        while parent.setdefault(path, path) != path:
            path = parent[path]
        return path

    for paths in files:
        parent[root(paths["moving"])] = root(paths["fixed"])
    first: dict[Path, str] = {}
    for paths, name in zip(files, names, strict=True):
        first.setdefault(root(paths["fixed"]), name)
    return [
        row.get("subject", "") or first[root(paths["fixed"])]
        for row, paths in zip(rows, files, strict=True)
    ]


def _splits(table: Path, rows: list[tuple[int, Row]], subjects: list[str]) -> list[Split]:
    automatic = assign_splits(subjects)
    splits: list[Split] = []
    chosen: dict[str, tuple[str, int]] = {}
    for (line, row), subject in zip(rows, subjects, strict=True):
        split = row.get("split", "").lower() or automatic[subject]
        if split not in SPLITS:
            raise InputError(
                f"{table} line {line}, column split: {split!r} is none of {', '.join(SPLITS)}"
            )
        if row.get("subject"):
            first, first_line = chosen.setdefault(subject, (split, line))
            if first != split:
                raise InputError(
                    f"{table} line {line}, column split: subject {subject!r} is {split} here "
                    f"but {first} in line {first_line}; one subject belongs to one split"
                )
        splits.append(cast(Split, split))
    return splits
