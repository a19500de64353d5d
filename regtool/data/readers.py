"""From what follows ``--data`` to a list of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from regtool.data.cases import PairCase
from regtool.data.pairs_table import read_pairs
from regtool.data.settings import Setting
from regtool.errors import InputError, UsageError
from regtool.paths import exists, expanded, is_dir
from regtool.plugins import readers as brought

READERS = {
    "acdc": "regtool.data.acdc:read_acdc",
    "breathing": "regtool.data.breathing:read_breathing",
    "camus": "regtool.data.camus:read_camus",
    "dirlab": "regtool.data.dirlab:read_dirlab",
    "echonet": "regtool.data.echonet:read_echonet",
    "ixi": "regtool.data.ixi:read_ixi",
    "learn2reg": "regtool.data.learn2reg:read_learn2reg",
    "oasis": "regtool.data.oasis:read_oasis",
    "pairs": "regtool.data.pairs_table:read_pairs",
    "phantom": "regtool.data.phantom_files:read_phantoms",
}
"""Name before the colon of ``READER:PATH`` to the function that reads the rest.

These come with regtool and are imported when they are used; other distributions bring more
(``regtool.plugins.readers``).
"""

PLACES = {
    "acdc": ("FOLDER", "ACDC, cine cardiac MR: the folder of the patients"),
    "breathing": ("phantom|CT.nii.gz", "Breathing that is generated, its true field known"),
    "camus": ("FOLDER", "CAMUS, echocardiography: the folder of the patients"),
    "dirlab": ("FOLDER", "DIR-Lab 4D CT: the folder of the ten cases"),
    "echonet": ("FOLDER", "EchoNet-Dynamic: the folder with FileList.csv and Videos"),
    "ixi": ("FOLDER", "IXI brains: TransMorph's folder, or that of the NIfTI files"),
    "learn2reg": ("FOLDER", "A data set of Learn2Reg: the folder with its *dataset.json"),
    "oasis": ("FOLDER", "OASIS brains: the folder of the scans"),
    "pairs": ("TABLE.csv", "A table of pairs"),
    "phantom": ("heart2d|heart3d|brain|lung", "Images that are generated, with labels"),
}
"""What stands behind the colon of each of these readers, and what it reads."""

TABLES = (".csv", ".tsv")


def open_data(spec: str, files: bool = True, option: str = "--data") -> list[PairCase]:
    """The pairs of ``READER:PATH``, of a table (``pairs.csv``) or of ``phantom[:KIND?n=8&seed=0]``.

    Nothing but the existence of files is checked; with ``files`` off, that of a table's files, and
    of those that a distribution's own reader names, is left to whoever reads them. Pairs come in a
    fixed order with unique names. ``option`` is what ``spec`` followed, for messages.
    Raises UsageError for an unknown reader, InputError for what the reader cannot read,
    PluginError for another distribution's reader that is broken or takes a name that is taken.
    """
    reader, colon, rest = spec.partition(":")
    if colon and reader in brought.names():
        pairs = brought.read(reader, rest, READERS, files, option)
    elif reader in READERS and (colon or reader == "phantom"):
        pairs = _read(spec, reader, rest, option)
    elif spec.lower().endswith(TABLES) and reader not in READERS:
        return read_pairs(spec, files)
    else:
        raise UsageError(_unknown(spec, reader if colon else "", option))
    if not pairs:
        raise InputError(f"{option} {spec}: no pairs found")
    return pairs


def settings_of(reader: str) -> Mapping[str, Setting]:
    """The settings behind the question mark of a reader that comes with regtool."""
    module = import_module(READERS[reader].partition(":")[0])
    return cast(Mapping[str, Setting], getattr(module, "SETTINGS", {}))


def _read(spec: str, reader: str, rest: str, option: str) -> list[PairCase]:
    """The pairs of a reader that comes with regtool."""
    module, _, function = READERS[reader].partition(":")
    read = cast(Callable[[str], list[PairCase]], getattr(import_module(module), function))
    try:
        return read(rest)
    except UsageError as error:  # begins with READER:PATH
        raise UsageError(f"{option} {error}") from error
    except OSError as error:
        raise InputError(f"{option} {spec}: {error.strerror or error}") from error


def _unknown(spec: str, reader: str, option: str) -> str:
    """The sentence for data that no reader reads."""
    if reader and brought.left_out(reader):
        return (
            f"{option} {spec}: the reader '{reader}' is installed but left out by "
            "REGTOOL_LOAD_PLUGINS; add it there"
        )
    if not spec.strip():
        return f"{option}: empty; give READER:PATH, a table pairs.csv, or phantom"
    known = ", ".join(f"{name}:…" for name in sorted({*READERS, *brought.names()}))
    place = ""
    if is_dir(expanded(spec)):
        place = " (for a folder name its format, as in acdc:FOLDER)"
    elif exists(expanded(spec)):
        place = " (for image files write a table with the columns fixed,moving)"
    return f"{option} {spec}: expected {known} or a table ending in .csv{place}"
