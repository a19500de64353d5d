"""The parts of pickled numpy arrays: types and values, checked before anything is made of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEEPEST = 4
"""Axes of an array."""
DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
"""Booleans, integers and real numbers; no objects, strings, structures or complex numbers."""

Name = tuple[str, str]
"""Module and name."""


class Refused(ValueError):
    """Why the file is not a pickle of arrays."""


@dataclass(frozen=True)
class Mention:
    """A name that the pickle mentions; it is never looked up."""

    name: Name


@dataclass
class Dtype:
    """The type of an array's values; changed when its byte order is read."""

    dtype: np.dtype[Any]


@dataclass
class Array:
    """An array, None until its values are read."""

    values: NDArray[Any] | None = None


def dtype_of(arguments: tuple[Any, ...]) -> np.dtype[Any]:
    """From (code, align, copy), such as ``f4``."""
    code = arguments[0] if arguments else None
    if not (isinstance(code, str) and DTYPE.fullmatch(code)):
        raise Refused(f"holds values of type {short(code)} instead of numbers")
    return np.dtype(code)


def with_order(dtype: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
    """The type in the byte order of its state: (version, order, None, None, None, …)."""
    if len(state) < 5 or state[1] not in ("<", ">", "|", "=") or state[2:5] != (None,) * 3:
        raise Refused("holds values of a compound type instead of numbers")
    return dtype.newbyteorder(state[1])


def from_state(state: tuple[Any, ...]) -> NDArray[Any]:
    """From (version, shape, type, Fortran order?, bytes); old numpy had no version."""
    if len(state) not in (4, 5):
        raise Refused("damaged: an array without its parts")
    shape, dtype, fortran, raw = state[-4:]
    return _values(raw, dtype, shape, "F" if fortran is True or fortran == 1 else "C")


def from_buffer(arguments: tuple[Any, ...]) -> NDArray[Any]:
    """From (bytes, type, shape, order[, order of the axes]), as protocol 5 has it."""
    if len(arguments) not in (4, 5):
        raise Refused("damaged: an array without its parts")
    raw, dtype, shape, order = arguments[:4]
    axes = arguments[4] if len(arguments) == 5 else None
    if order == "K" and isinstance(axes, tuple) and isinstance(shape, tuple):
        if not all(type(a) is int for a in axes) or sorted(axes) != list(range(len(shape))):
            raise Refused("damaged: axes that are not those of its array")
        return _values(raw, dtype, shape, "C").transpose(axes)
    if order not in ("C", "F"):
        raise Refused("damaged: an array in no known order")
    return _values(raw, dtype, shape, order)


def _values(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(dtype, Dtype):
        raise Refused("damaged: an array without a type")
    if not (isinstance(shape, tuple) and all(type(n) is int and 0 < n < 2**31 for n in shape)):
        sizes = shape if isinstance(shape, tuple) and len(shape) <= DEEPEST else ()
        plain = all(isinstance(n, int) for n in sizes) and sizes
        raise Refused(
            f"holds an array of shape {short(str(plain))}"
            if plain
            else "damaged: a shape of no numbers"
        )
    if not 1 <= len(shape) <= DEEPEST:
        raise Refused(f"holds an array of {len(shape)} axes instead of 1 to {DEEPEST}")
    data = as_bytes(raw)
    wanted = math.prod(shape) * dtype.dtype.itemsize
    if wanted != len(data):
        raise Refused(
            f"claims an array of {'×'.join(map(str, shape))} {dtype.dtype.name} "
            f"({wanted} bytes), but has {len(data)} bytes for it"
        )
    values = np.frombuffer(data, dtype.dtype)
    native = dtype.dtype.newbyteorder("=")
    values = values if dtype.dtype.isnative else values.astype(native)
    return values.reshape(shape, order="F" if order == "F" else "C")


def as_bytes(raw: Any) -> bytes:
    """The bytes of an array; Python 2 wrote them as a string."""
    if isinstance(raw, str):
        try:
            return raw.encode("latin-1")
        except UnicodeEncodeError:
            raise Refused("damaged: bytes that are not latin1 text") from None
    if isinstance(raw, (bytes, bytearray)):
        return bytes(raw)
    raise Refused(f"holds {kind_of(raw)} where bytes are expected")


def kind_of(value: Any) -> str:
    """What a value is, for a message; never its content, which may be nested without end."""
    if isinstance(value, Mention):
        return ".".join(value.name)
    names = {Array: "an array", Dtype: "a type"}
    return names.get(type(value)) or f"an object of type {type(value).__name__}"


def short(value: object) -> str:
    """Text of the file for a message: printable, and not long."""
    text = ascii(value)[1:-1] if isinstance(value, str) else kind_of(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
