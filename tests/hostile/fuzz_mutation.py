"""Damage done to sound inputs: bytes, header fields, JSON trees, lines of text.

Every function takes a ``random.Random``; the same state gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

INTEGERS = (
    0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 10**6, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -128, -32768, -(2**31), -(2**63),
)  # fmt: skip
FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-38, 1e-6, 1e6, 1e30, 3.4e38, 1e300, math.inf, -math.inf,
    math.nan,
)  # fmt: skip
WORDS = (
    "", " ", "0", "-1", "1", "2", "3", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 400,
    "9" * 5000, "0x10", "1_000", "١٢", "²", "½", "none", "null", "true", "..", ".", "/", "../..",
    "../../../../../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "~",
    "~nobody-of-this-name/x", "~/x", "a" * 300, "a/" * 3000, "\x00", "a\x00b", "\udc80", "\u202e",
    "\u2028", "\ufeff", "😀", "%s%n", "{}", "{0}", "$HOME", "`id`", "$(id)", "; id", "| id", "-o",
    "--overwrite", "=", "==", "a=b=c", ",", ",,", ";", "\t", "\n", "\r\n", '"', '""', "'", "\\",
    "[", "]", "[]", "[,1]", "[a,1]", "(", "(" * 300, "[" * 3000, "{" * 3000, "hub:", "hub:a/b",
    "hub:../../x@y", "hub:a/b@../../c", "CON", "nul", "javascript:alert(1)", "<script>", "*", "?",
    "[a-z]*", "(a+)+$", "x" * 200_000,
)  # fmt: skip
"""Texts that have been trouble for somebody's parser."""


def damaged(rng: Random, data: bytes, others: Sequence[bytes] = (), rounds: int = 3) -> bytes:
    """Bytes after one to ``rounds`` changes of any kind; ``others`` give parts to splice in."""
    for _ in range(rng.randint(1, rounds)):
        data = rng.choice(_CHANGES)(rng, data, others)
    return data


def _flip(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _byte(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.choice((0, 255, 127, 128, 10, 34, 44, rng.randrange(256)))]) + (
        data[at + 1 :]
    )  # fmt: skip


def _number(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number of 2, 4 or 8 bytes in either byte order, written over what was there."""
    order = rng.choice("<>")
    if rng.random() < 0.3:
        kind = rng.choice("fd")
        value = rng.choice(FLOATS)
        limited = (
            max(min(value, 3.4e38), -3.4e38) if kind == "f" and math.isfinite(value) else value
        )
        raw = struct.pack(order + kind, limited)
    else:
        width = rng.choice((2, 4, 8))
        value = rng.choice(INTEGERS) % (1 << 8 * width)
        raw = value.to_bytes(width, "little" if order == "<" else "big")
    at = rng.randrange(max(1, len(data) - len(raw) + 1))
    return data[:at] + raw + data[at + len(raw) :]


def _cut(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 4, 16, 256)) :]


def _insert(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    new = rng.choice((rng.randbytes(rng.randint(1, 16)), b"\0" * 64, b"\xff" * 64, b"\n", b'"',
                      rng.choice(WORDS[:80]).encode("utf-8", "surrogatepass")))  # fmt: skip
    return data[:at] + new + data[at:]


def _repeat(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((1, 4, 16, 64))]
    return data[:start] + part * rng.choice((2, 3, 50)) + data[start:]


def _splice(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else data[::-1]
    at, start = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:at] + other[start : start + rng.choice((4, 64, 4096))] + data[at:]


_CHANGES = (_flip, _flip, _byte, _byte, _number, _number, _number, _cut, _remove, _insert, _repeat,
            _splice)  # fmt: skip


def header_fields(rng: Random, data: bytes, layout: np.dtype[Any]) -> bytes:
    """A file whose header, of a known layout, has one to four fields replaced by odd values."""
    raw = bytearray(data[: layout.itemsize])
    if len(raw) < layout.itemsize:
        return damaged(rng, data)
    header = np.frombuffer(raw, dtype=layout)
    names = list(layout.names or ())
    for _ in range(rng.randint(1, 4)):
        field = header[rng.choice(names)]
        flat = field.reshape(-1)
        at = rng.randrange(flat.size)
        if flat.dtype.kind in "iu":
            limits = np.iinfo(flat.dtype)
            value = rng.choice((*INTEGERS, rng.randint(0, 40)))
            flat[at] = min(max(value, int(limits.min)), int(limits.max))
        elif flat.dtype.kind == "f":
            value = rng.choice((*FLOATS, rng.uniform(-3, 3)))
            with np.errstate(over="ignore"):
                flat[at] = value
        else:
            flat[at] = rng.randbytes(flat.dtype.itemsize)
    return bytes(raw) + data[layout.itemsize :]


def zipped(rng: Random, data: bytes) -> bytes:
    """A gzip stream of some data: sound, odd, damaged, or several in a row."""
    packed = gzip.compress(data, rng.choice((0, 1, 9)), mtime=0)
    kind = rng.randrange(8)
    if kind == 0:
        return packed
    if kind == 1:  # several members, and perhaps what is none
        at = rng.randrange(len(data) + 1)
        parts = gzip.compress(data[:at], mtime=0) + gzip.compress(data[at:], mtime=0)
        return parts + rng.choice((b"", b"\0" * 100, b"\x1f\x8b", packed[:20], b"garbage"))
    if kind == 2:  # little that expands to much
        return gzip.compress(data + bytes(rng.choice((10**4, 10**6, 10**7))), 9, mtime=0)
    if kind == 3:  # a header with optional parts
        flags = rng.randrange(256)
        return packed[:3] + bytes([flags]) + packed[4:10] + rng.randbytes(6) + packed[10:]
    if kind == 4:  # a sound body under a false checksum or length
        return packed[:-8] + rng.randbytes(8)
    if kind == 5:
        return packed[:-8] + zlib.compress(data)
    return damaged(rng, packed)


def tree(rng: Random, value: Any) -> bytes:
    """JSON text of a value with one to four parts changed; some of it not JSON at all."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 4)):
        value = _change(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    kind = rng.randrange(12)
    if kind == 0:
        return damaged(rng, text.encode("utf-8", "surrogatepass"))
    if kind == 1 and '"' in text:  # a number or word that json.dumps does not write
        odd = rng.choice(("1e999", "-1e999", "NaN", "Infinity", "9" * 5000, "1" * 400, "[" * 3000,
                          '{"a":' * 3000, "truth", "0x1", "01", "'a'"))  # fmt: skip
        parts = text.split(": ")
        at = rng.randrange(len(parts))
        return ": ".join([*parts[:at], odd, *parts[at:]]).encode("utf-8", "surrogatepass")
    if kind == 2:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig")), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


def any_value(rng: Random) -> Any:
    """A JSON value of any kind."""
    kind = rng.randrange(9)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind in (1, 2):
        return rng.choice(INTEGERS) if rng.random() < 0.7 else rng.choice((10**30, -(10**30)))
    if kind == 3:
        return rng.choice(FLOATS)
    if kind in (4, 5, 6):
        return rng.choice(WORDS)
    if kind == 7:
        return [any_value(rng) for _ in range(rng.randrange(4))]
    return {rng.choice(WORDS[:40]): any_value(rng) for _ in range(rng.randrange(3))}


def _change(rng: Random, value: Any) -> Any:
    """The value with one place in it replaced, removed, added or renamed."""
    if rng.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return any_value(rng) if not isinstance(value, dict) or rng.random() < 0.2 else value
    if isinstance(value, list):
        at = rng.randrange(len(value))
        action = rng.randrange(5)
        if action == 0:
            return value[:at] + value[at + 1 :]
        if action == 1:
            return [*value[:at], any_value(rng), *value[at:]]
        if action == 2:
            return value * rng.choice((2, 100))
        return [*value[:at], _change(rng, value[at]), *value[at + 1 :]]
    key = rng.choice(list(value))
    action = rng.randrange(8)
    if action == 0:
        return {k: v for k, v in value.items() if k != key}
    if action == 1:
        return {**value, rng.choice(WORDS[:60]): any_value(rng)}
    if action == 2:
        return {(rng.choice(WORDS[:60]) if k == key else k): v for k, v in value.items()}
    if action in (3, 4):
        return {**value, key: any_value(rng)}
    return {**value, key: _change(rng, value[key])}


def lines(rng: Random, text: str) -> bytes:
    """Text whose cells, delimiters or lines were exchanged; some of it damaged as bytes."""
    rows = text.split("\n")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(rows))
        delimiter = rng.choice(",;\t =:")
        action = rng.randrange(7)
        if action == 0:
            rows.insert(at, rows[rng.randrange(len(rows))])
        elif action == 1 and len(rows) > 1:
            del rows[at]
        elif action == 2:
            rows[at] = rows[at].replace(",", delimiter)
        else:
            cells = rows[at].split(delimiter)
            cells[rng.randrange(len(cells))] = rng.choice(WORDS)
            rows[at] = delimiter.join(cells)
    joined = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(rows)
    data = joined.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig")), "surrogatepass")
    return damaged(rng, data) if rng.random() < 0.25 else data


def phrase(rng: Random, seeds: Sequence[str]) -> bytes:
    """A short text, such as an option's value, made of pieces of others and of odd words."""
    text = rng.choice(seeds)
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(text) + 1)
        action = rng.randrange(5)
        if action == 0:
            text = text[:at] + rng.choice(WORDS) + text[at:]
        elif action == 1:
            text = text[:at]
        elif action == 2:
            other = rng.choice(seeds)
            text = text[:at] + other[rng.randrange(len(other) + 1) :]
        elif action == 3:
            text = text[:at] + chr(rng.choice((0, 9, 10, 32, 34, 44, 46, 47, 58, 61, 63, 64, 91, 93,
                                               126, 0xDC80, 0x2028, rng.randrange(0x3000)))) + (
                text[at + 1 :])  # fmt: skip
        else:
            text = rng.choice(WORDS)
    return text.encode("utf-8", "surrogatepass")
