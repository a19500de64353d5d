"""Tables that name labels."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from regtool.errors import InputError
from regtool.imaging.reading import check_file

_NUMBER = ("label", "label number", "number", "id", "index", "value", "key", "no", "no.")
_NAME = ("name", "label name", "structure", "structure name", "region")


def read_names(path: str | Path) -> dict[int, str]:
    """Names of labels by number.

    CSV or TSV with a header that has a column of numbers (label, id, index, value …) and one of
    names (name, structure …), or lines ``number name …`` as in FreeSurfer's colour tables and
    ITK-SNAP's label descriptions (there the name is the last, quoted field). A name that occurs
    twice gets its number. Raises InputError naming the file.
    """
    file = check_file(path)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{file}: not a text file; a label table has numbers and names") from None
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise InputError(f"{file}: no labels in the file")
    try:
        found = _lines(lines) if re.match(r"\s*\d+\s+\S", lines[0]) else _columns(file, lines)
    except (csv.Error, ValueError) as error:  # a cell or a number without end
        raise InputError(f"{file}: not readable as a table of labels ({error})") from None
    if not found:
        raise InputError(f"{file}: no line of a number and a name")
    counts = [name for _, name in found]
    return {
        number: f"{name} ({number})" if counts.count(name) > 1 else name for number, name in found
    }


def _lines(lines: list[str]) -> list[tuple[int, str]]:
    found = []
    for line in lines:
        quoted = re.match(r'\s*(\d+)\s.*"([^"]*)"\s*$', line)
        plain = re.match(r"\s*(\d+)\s+(\S+)", line)
        match = quoted or plain
        if match:
            found.append((int(match.group(1)), match.group(2)))
    return found


def _columns(file: Path, lines: list[str]) -> list[tuple[int, str]]:
    delimiter = next((d for d in "\t;," if d in lines[0]), ",")
    rows = list(csv.reader(lines, delimiter=delimiter))
    header = [cell.strip().lower() for cell in rows[0]]
    at = [
        next((header.index(c) for c in wanted if c in header), None) for wanted in (_NUMBER, _NAME)
    ]
    number, name = at
    if number is None or name is None:
        raise InputError(
            f"{file}: the first line names no column of numbers (such as label) or none of names "
            "(such as name)"
        )
    found = []
    for row in rows[1:]:
        cells = [cell.strip() for cell in row]
        if len(cells) <= max(number, name) or not cells[name]:
            continue
        if not re.fullmatch(r"-?\d+", cells[number]):
            raise InputError(f"{file}: {cells[number]!r} is not the number of a label")
        found.append((int(cells[number]), cells[name]))
    return found
