"""Which registrations to evaluate: records, folders of records, tables."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regtool.engine.evaluate.pair import record_name
from regtool.engine.evaluate.registered import FILES
from regtool.errors import InputError, UsageError
from regtool.paths import exists, expanded, is_dir
from regtool.record import SUFFIX, files_of, is_record, records_below

TABLES = (".csv", ".tsv")
RUN = ("run", "group")
"""Columns that say to which run a row belongs."""


@dataclass(frozen=True)
class Item:
    """A record, the files that replace those it names, its name, and its run."""

    record: Path
    name: str
    run: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)


def collect(
    sources: Sequence[str | Path], run: str = "", files: Mapping[str, Path] | None = None
) -> list[Item]:
    """The items of records (``…regtool.json``), folders with records in them, and tables.

    A folder stands for all records below it (``records_below``). A table (CSV, or TSV) has the
    columns ``record`` and, if wanted, ``fixed``, ``moving``, ``fixed_labels``, ``moving_labels``,
    ``fixed_points``, ``moving_points``, ``name`` and ``run`` (or ``group``); relative paths start
    at its folder. ``files`` hold where a row has none of its own.
    Raises InputError for what is not there, a folder without records or a table that cannot be
    used, UsageError for anything else.
    """
    given = dict(files or {})
    found: list[Item] = []
    for source in sources:
        path = expanded(source)
        if is_dir(path):
            found += _folder(path, run, given)
        elif path.suffix.lower() in TABLES:
            found += _table(path, run, given)
        elif is_record(path):
            found.append(Item(path, record_name(path), run, given))
        elif not exists(path):
            raise InputError(f"{source}: no such record (…{SUFFIX}), folder of records or table")
        else:
            raise UsageError(
                f"{source}: neither a record (…{SUFFIX}), nor a folder of records, nor a table "
                f"({', '.join(TABLES)})"
            )
    return found


def inputs_of(items: Sequence[Item]) -> list[Path]:
    """All files that an evaluation of the items reads, each once."""
    found = (path for item in items for path in (*files_of(item.record), *item.files.values()))
    return list(dict.fromkeys(found))


def name_runs(
    runs: Sequence[str], taken: Collection[str] = (), first: str | None = None
) -> list[tuple[str, str]]:
    """Name and source of each ``--compare``: ``NAME=PATH``, or a path, which names its run.

    A path gives the shortest end of it that no other run has: ``r1/out`` and ``r2/out`` in full.
    ``taken`` are the names of runs that there are already; ``first`` is a path whose run has no
    name yet and is named before the others. Raises UsageError for a name or path given twice.
    """
    found = [_named(run) for run in runs]
    given = Counter(taken)
    for run, (name, _) in zip(runs, found, strict=True):
        if name is not None and given[name]:
            raise UsageError(f"--compare {run}: there is a run {name!r} already; name it otherwise")
        given.update([] if name is None else [name])
    parts = {n: Path(source).parts or (source,) for n, (name, source) in enumerate(found)
             if name is None}  # fmt: skip
    if first is not None:
        parts = {0: expanded(first).absolute().parts, **{n + 1: p for n, p in parts.items()}}
        runs, found = [first, *runs], [(None, first), *found]
    length = dict.fromkeys(parts, 1)
    while True:
        tails = {n: str(Path(*parts[n][-length[n] :])) for n in parts}
        counts = given + Counter(tails.values())
        twice = [n for n in parts if counts[tails[n]] > 1]
        longer = [n for n in twice if length[n] < len(parts[n])]
        if not twice:
            return [(tails[n] if name is None else name, at) for n, (name, at) in enumerate(found)]
        if not longer:
            raise UsageError(
                f"--compare {runs[twice[-1]]}: there is a run {tails[twice[-1]]!r} already; "
                "write NAME=PATH to tell them apart"
            )
        for n in longer:
            length[n] += 1


def _named(run: str) -> tuple[str | None, str]:
    """``NAME=PATH``, or a path without a name."""
    name, equals, source = run.partition("=")
    if not equals:
        return None, run
    if not (name.strip() and source.strip()):
        raise UsageError(f"--compare {run}: write NAME=FOLDER, NAME=TABLE.csv or a path alone")
    return name.strip(), source.strip()


def _folder(folder: Path, run: str, files: dict[str, Path]) -> list[Item]:
    records = records_below(folder)
    if not records:
        raise InputError(f"{folder}: no record (…{SUFFIX}) in this folder or below")
    items = []
    for path in records:
        inside = path.relative_to(folder).parent
        name = record_name(path)
        if path.name != SUFFIX:  # a bare regtool.json is named after its folder already
            name = str(inside / name)
        items.append(Item(path, name, run, files))
    return items


def _table(path: Path, run: str, files: dict[str, Path]) -> list[Item]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such table") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from error
    if len(rows) < 2:
        raise InputError(f"{path}: no rows: expected a header line (record,…) and rows")
    header = _header(path, [cell.strip().lower() for cell in rows[0]])
    items = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header):
            raise InputError(
                f"{path}, row {number}: {len(row)} cells for {len(header)} columns (quote paths "
                "that contain a comma)"
            )
        cells = {column: cell.strip() for column, cell in zip(header, row, strict=False)}
        if not cells.get("record"):
            raise InputError(f"{path}, row {number}, column record: empty")
        record = path.parent / expanded(cells["record"])
        own = {
            column: path.parent / expanded(cells[column]) for column in FILES if cells.get(column)
        }
        which = run or next((cells[column] for column in RUN if cells.get(column)), "")
        items.append(
            Item(record, cells.get("name") or record_name(record), which, {**files, **own})
        )
    return items


def _header(path: Path, header: list[str]) -> list[str]:
    known = ("record", "name", *RUN, *FILES)
    for column in header:
        close = difflib.get_close_matches(column, known, n=1, cutoff=0.8)
        if column not in known and close and close[0] not in header:
            raise InputError(f"{path}: unknown column {column!r}; did you mean {close[0]!r}?")
        if column and header.count(column) > 1:
            raise InputError(f"{path}: column {column} appears twice in the header")
    if "record" not in header:
        raise InputError(
            f"{path}: no column 'record' in the header ({', '.join(header)}); to evaluate what "
            "'register --pairs' wrote, give its output folder"
        )
    return header
