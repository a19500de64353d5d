"""The text headers of MetaImage and NRRD files, checked before ITK reads them.

ITK's readers of both trust what is written there: lines overflow its buffers, and what a header
claims is allocated before the data are looked for. Sources: "MetaIO Documentation" (Kitware);
"Definition of NRRD File Format" (teem).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, prod
from pathlib import Path

from regtool.errors import InputError
from regtool.imaging.nifti import DEFLATE_LIMIT, check_memory

LONGEST = 500
"""Characters of a line; ITK's buffers hold about a thousand."""
_HEADER = 2**16
"""Bytes in which a header ends."""
_META_TYPES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip
_META_NUMBERS = ("TransformMatrix", "Rotation", "Orientation", "Offset", "Position", "Origin",
                 "CenterOfRotation", "ElementSpacing", "ElementSize", "ElementMin",
                 "ElementMax")  # fmt: skip
_META_WHOLE = ("HeaderSize", "CompressedDataSize")
_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8",
                     "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t",
                     "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32",
                     "uint32_t", "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long",
                     "signed long long int", "int64", "int64_t", "ulonglong",
                     "unsigned long long", "unsigned long long int", "uint64", "uint64_t",
                     "double"), 8),
}  # fmt: skip
_NRRD_FIELDS = frozenset(
    {
        "dimension", "type", "encoding", "endian", "content", "old min", "oldmin", "min",
        "old max", "oldmax", "max", "data file", "datafile", "line skip", "lineskip", "byte skip",
        "byteskip", "number", "sample units", "sampleunits", "sizes", "spacings", "thicknesses",
        "axis mins", "axismins", "axis maxs", "axismaxs", "centers", "centerings", "labels",
        "units", "kinds", "space", "space dimension", "space units", "space origin",
        "space directions", "measurement frame",
    }
)  # fmt: skip
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def check_text_header(path: Path) -> None:
    """Raise InputError for a header that ITK had better not see."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
    if head.startswith(b"NRRD"):
        _check_nrrd(path, head, size)
    else:
        _check_meta(path, head, size)


def _check_meta(path: Path, head: bytes, size: int) -> None:
    fields: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in fields:
        line, at = _line(path, head, at)
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.strip():
            if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_ ]{0,80}", key) or key in fields:
                raise _damaged(path, f"a line {line[:40]!r}")
            fields[key] = value
    dims = _whole(path, fields, "NDims", 1, 4)[0]
    if dims is None:
        raise _damaged(path, "no NDims")
    shape = _whole(path, fields, "DimSize", 1, 2**31)
    channels = _whole(path, fields, "ElementNumberOfChannels", 1, 64)[0] or 1
    item = _META_TYPES.get(fields.get("ElementType", "").removesuffix("_ARRAY"))
    if len(shape) != dims or None in shape or item is None:
        raise _damaged(path, "a size or a type that is none")
    for key in _META_NUMBERS:
        _finite(path, fields.get(key, "").split())
    for key in _META_WHOLE:
        _whole(path, fields, key, -1, 2**62)
    local = fields["ElementDataFile"].upper() == "LOCAL"
    packed = fields.get("CompressedData", "").lower().startswith("t")
    _check_claim(path, [n for n in shape if n], channels * item, local, packed, size - at)


def _check_nrrd(path: Path, head: bytes, size: int) -> None:
    fields: dict[str, str] = {}
    line, at = _line(path, head, 0)
    if not re.fullmatch(r"NRRD000[1-6]", line):
        raise _damaged(path, f"a first line {line[:40]!r}")
    while at < len(head):
        line, at = _line(path, head, at)
        if not line:
            break
        if line.startswith("#") or ":=" in line:
            continue
        key, colon, value = line.partition(":")
        key = key.lower()
        if not colon or key not in _NRRD_FIELDS or key in fields:
            raise _damaged(path, f"a line {line[:40]!r}")
        fields[key] = value.strip()
    dims = _whole(path, fields, "dimension", 1, 5)[0]
    shape = _whole(path, fields, "sizes", 1, 2**31)
    item = _NRRD_TYPES.get(fields.get("type", "").lower())
    if dims is None or len(shape) != dims or None in shape or item is None:
        raise _damaged(path, "a size or a type that is none")
    for key in ("spacings", "thicknesses", "axis mins", "axismins", "axis maxs", "axismaxs"):
        _finite(path, [w for w in fields.get(key, "").split() if w.lower() != "nan"])
    for key in ("space origin", "space directions", "measurement frame"):
        _check_vectors(path, fields.get(key, ""))
    for key in ("line skip", "lineskip", "byte skip", "byteskip", "space dimension"):
        _whole(path, fields, key, -1, 2**31)
    local = not {"data file", "datafile"} & set(fields)
    packed = fields.get("encoding", "raw").lower() not in ("raw", "txt", "text", "ascii", "hex")
    _check_claim(path, [n for n in shape if n], item, local, packed, size)


def _line(path: Path, head: bytes, at: int) -> tuple[str, int]:
    """The text of the line at an offset, and where the next one begins."""
    end = head.find(b"\n", at)
    if end < 0 and len(head) < _HEADER and at < len(head):
        end = len(head)
    if end < 0:
        raise _damaged(path, "it has no end")
    raw = head[at:end].removesuffix(b"\r")
    if len(raw) > LONGEST:
        raise _damaged(path, f"a line of {len(raw)} characters")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _damaged(path, "bytes that are no text") from None
    if not text.replace("\t", " ").isprintable():
        raise _damaged(path, "bytes that are no text")
    return text, end + 1


def _whole(
    path: Path, fields: Mapping[str, str], key: str, least: int, most: int
) -> list[int | None]:
    """The whole numbers of a field; one None where there is no such field."""
    if key not in fields:
        return [None]
    found: list[int | None] = []
    for word in fields[key].split():
        if not re.fullmatch(r"[-+]?\d{1,18}", word, re.ASCII) or not least <= int(word) <= most:
            raise _damaged(path, f"{key}: {fields[key][:40]}")
        found.append(int(word))
    return found or [None]


def _finite(path: Path, words: list[str]) -> None:
    for word in words:
        if not _NUMBER.fullmatch(word) or not isfinite(float(word)) or abs(float(word)) > 1e18:
            raise _damaged(path, f"a number {word[:40]!r}")


def _check_vectors(path: Path, text: str) -> None:
    if _VECTOR.sub("", text).strip():
        raise _damaged(path, f"vectors {text[:40]!r}")
    for found in _VECTOR.finditer(text):
        if found[1] is not None:
            _finite(path, [word.strip() for word in found[1].split(",")])


def _check_claim(
    path: Path, shape: list[int], item: int, local: bool, packed: bool, left: int
) -> None:
    """Hold the claimed size against the file, where the data are in it, and the memory."""
    wanted = prod(shape) * item
    sizes = "×".join(map(str, shape))
    if local and wanted > left * (DEFLATE_LIMIT if packed else 1) + 64:
        raise InputError(
            f"{path}: the file is truncated or its header is wrong: {sizes} voxels need {wanted} "
            f"bytes, {left} are left"
        )
    check_memory(path, sizes, wanted)


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: a damaged or unknown header of an image ({what})")
