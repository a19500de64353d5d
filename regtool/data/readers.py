"""From what follows ``--data`` to a list of pairs."""

from __future__ import annotations

from collections.abc import Callable

from regtool.data.acdc import read_acdc
from regtool.data.breathing import read_breathing
from regtool.data.camus import read_camus
from regtool.data.cases import PairCase
from regtool.data.dirlab import read_dirlab
from regtool.data.echonet import read_echonet
from regtool.data.ixi import read_ixi
from regtool.data.learn2reg import read_learn2reg
from regtool.data.oasis import read_oasis
from regtool.data.pairs_table import read_pairs
from regtool.data.phantom_files import read_phantoms
from regtool.errors import InputError, UsageError
from regtool.paths import exists, expanded

READERS: dict[str, Callable[[str], list[PairCase]]] = {
    "acdc": read_acdc,
    "breathing": read_breathing,
    "camus": read_camus,
    "dirlab": read_dirlab,
    "echonet": read_echonet,
    "ixi": read_ixi,
    "learn2reg": read_learn2reg,
    "oasis": read_oasis,
    "pairs": read_pairs,
    "phantom": read_phantoms,
}
"""Name before the colon of ``READER:PATH`` to the function that reads the rest."""

TABLES = (".csv", ".tsv")


def open_data(spec: str, files: bool = True) -> list[PairCase]:
    """The pairs of ``READER:PATH``, of a table (``pairs.csv``) or of ``phantom[:KIND?n=8&seed=0]``.

    Nothing but the existence of files is checked; with ``files`` off, that of a table's files is
    left to whoever reads them. Pairs come in a fixed order with unique names.
    Raises UsageError for an unknown reader, InputError for what the reader cannot read.
    """
    reader, colon, rest = spec.partition(":")
    if spec.lower().endswith(TABLES) and reader not in READERS:
        return read_pairs(spec, files)
    if reader not in READERS or (not colon and reader != "phantom"):
        known = ", ".join(f"{name}:…" for name in sorted(READERS))
        place = (
            " (is that a folder? name its format, as in acdc:FOLDER)"
            if exists(expanded(spec))
            else ""
        )
        raise UsageError(f"--data {spec}: expected {known} or a table ending in .csv{place}")
    try:
        pairs = READERS[reader](rest)
    except OSError as error:
        raise InputError(f"--data {spec}: {error.strerror or error}") from error
    if not pairs:
        raise InputError(f"--data {spec}: no pairs found")
    return pairs
