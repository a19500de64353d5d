"""Numpy arrays out of a pickle file, without unpickling.

A pickle is a program. ``pickle.load`` runs it, and whatever it names. Here the few instructions of
which pickled arrays consist are followed by hand: no name is imported, nothing is called, and all
else is refused. ``pickletools`` of the standard library takes the file apart.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging.reading import check_file

LARGEST = 2**29
"""Bytes of a file that is read; 256-cubed volumes as float64 and int64 have half of that."""
LONGEST = 10_000
"""Instructions; two pickled arrays are about 60."""
DEEPEST = 4
"""Axes of an array."""
MOST = 4
"""Arrays in a file."""

DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
"""Booleans, integers and real numbers; no objects, strings, structures or complex numbers."""

Name = tuple[str, str]
RECONSTRUCT = {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
FROMBUFFER = {(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
CLASSES = {("numpy", "ndarray"), ("numpy", "memmap")} | {
    (f"numpy.{core}.memmap", "memmap") for core in ("core", "_core")
}
DTYPE_NAME = ("numpy", "dtype")
ENCODE = ("_codecs", "encode")
KNOWN = RECONSTRUCT | FROMBUFFER | CLASSES | {DTYPE_NAME, ENCODE}
"""The names that pickled arrays mention, of numpy 1 and 2, and of Python 2 and 3."""


class _Refused(ValueError):
    """Why the file is not a pickle of arrays."""


@dataclass(frozen=True)
class _Name:
    """A name that the pickle mentions; it is never looked up."""

    name: Name


@dataclass
class _Dtype:
    dtype: np.dtype[Any]


@dataclass
class _Array:
    values: NDArray[Any] | None = None


def read_arrays(path: str | Path) -> tuple[NDArray[Any], ...]:
    """The arrays of a pickle that holds one array, or a tuple or list of up to four.

    Arrays are C- or Fortran-ordered as they were, in the machine's byte order, and read-only.
    Nothing of the file is executed. Raises InputError for a file that holds anything else, is cut
    off, or claims sizes that it does not have.
    """
    file = check_file(path)
    size = file.stat().st_size
    if size > LARGEST:
        raise InputError(
            f"{file}: {size / 2**20:.0f} MiB, more than the {LARGEST / 2**20:.0f} MiB that is read "
            "of a pickle; save it as NIfTI"
        )
    try:
        return _Reader(file.read_bytes()).arrays()
    except _Refused as error:
        raise InputError(
            f"{file}: {error}; of pickles only numpy arrays are read, and nothing in them is run"
        ) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None


class _Reader:
    """Follows the instructions of one pickle."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.made = 0

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Follow all instructions and check what they leave. Raises _Refused."""
        for count, (opcode, argument) in enumerate(self._instructions()):
            if count >= LONGEST:
                raise _Refused(f"more than {LONGEST} instructions")
            self._follow(opcode, argument)
        if len(self.stack) != 1 or self.marks:
            raise _Refused("damaged: it does not end with one object")
        found = self.stack[0]
        parts = found if isinstance(found, (tuple, list)) else (found,)
        if not 1 <= len(parts) <= MOST:
            raise _Refused(f"holds {len(parts)} objects instead of 1 to {MOST} arrays")
        arrays = []
        for part in parts:
            if not isinstance(part, _Array) or part.values is None:
                raise _Refused(f"holds {_kind(part)} where an array is expected")
            arrays.append(part.values)
        return tuple(arrays)

    def _instructions(self) -> Any:
        """Pairs of an instruction's name and argument; a damaged file raises _Refused."""
        try:
            for opcode, argument, _ in pickletools.genops(self.data):
                yield opcode.name, argument
        except (ValueError, IndexError, OverflowError) as error:
            raise _Refused(f"not a whole pickle ({_short(error)})") from None

    def _follow(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top()
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = self._top()
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise _Refused("damaged: it refers to what is not there")
            self.stack.append(self.memo[argument])
        elif opcode == "GLOBAL":
            module, _, name = argument.partition(" ")
            self.stack.append(_known((module, name)))
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise _Refused(f"has the instruction {opcode}, which no array needs")

    def _top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _Refused("damaged: it takes what is not there")
        return self.stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self.stack.pop()

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        if not self.marks:
            raise _Refused("damaged: it takes what is not there")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def tuple_since_mark(self) -> None:
        self.stack.append(tuple(self._since_mark()))

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def list_since_mark(self) -> None:
        self.stack.append(self._since_mark())

    def empty_list(self) -> None:
        self.stack.append([])

    def append(self) -> None:
        item = self._pop()
        self._list().append(item)

    def appends(self) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        target = self._top()
        if not isinstance(target, list):
            raise _Refused(f"adds an item to {_kind(target)}")
        return target

    def global_from_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise _Refused("damaged: a name that is not text")
        self.stack.append(_known((module, name)))

    def reduce(self) -> None:
        """Where ``pickle.load`` would call something: one of four things is done instead."""
        arguments, called = self._pop(), self._pop()
        name = called.name if isinstance(called, _Name) else None
        if name is None or not isinstance(arguments, tuple):
            raise _Refused(f"calls {_kind(called)}")
        if name in RECONSTRUCT:
            if not (arguments and isinstance(arguments[0], _Name) and arguments[0].name in CLASSES):
                raise _Refused("makes an object that is not an array")
            self.stack.append(_Array())
        elif name == DTYPE_NAME:
            self.stack.append(_Dtype(_dtype(arguments)))
        elif name in FROMBUFFER and arguments:
            self._spend(arguments[0])
            self.stack.append(_Array(_from_buffer(arguments)))
        elif name == ENCODE:
            self.stack.append(self._encode(arguments))
        else:
            raise _Refused(f"calls {'.'.join(name)}")

    def _encode(self, arguments: tuple[Any, ...]) -> bytes:
        """Bytes, which protocols 0 to 2 write as text."""
        if not (len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1"):
            raise _Refused("damaged: bytes that are not latin1 text")
        self._spend(arguments[0])
        return _bytes(arguments[0])

    def _spend(self, raw: object) -> None:
        """Bound what is made of the file's bytes: each makes one array, by way of text at most."""
        self.made += len(raw) if isinstance(raw, (str, bytes, bytearray)) else 0
        if self.made > 2 * len(self.data):
            raise _Refused("makes more arrays of its bytes than it holds")

    def build(self) -> None:
        """Give an array or a type its state."""
        state, target = self._pop(), self._top()
        if isinstance(target, _Array) and target.values is None and isinstance(state, tuple):
            self._spend(state[-1] if state else None)
            target.values = _from_state(state)
        elif isinstance(target, _Dtype) and isinstance(state, tuple):
            target.dtype = _with_order(target.dtype, state)
        else:
            raise _Refused(f"changes {_kind(target)}")


_VALUES = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "UNICODE", "BINUNICODE",
        "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
        "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    }
)  # fmt: skip
_CONSTANTS: dict[str, Any] = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (),
}  # fmt: skip
_ACTIONS: dict[str, Callable[[_Reader], None]] = {
    "MARK": _Reader.mark,
    "TUPLE": _Reader.tuple_since_mark,
    "TUPLE1": lambda reader: reader.tuple_of(1),
    "TUPLE2": lambda reader: reader.tuple_of(2),
    "TUPLE3": lambda reader: reader.tuple_of(3),
    "EMPTY_LIST": _Reader.empty_list,
    "LIST": _Reader.list_since_mark,
    "APPEND": _Reader.append,
    "APPENDS": _Reader.appends,
    "STACK_GLOBAL": _Reader.global_from_stack,
    "REDUCE": _Reader.reduce,
    "BUILD": _Reader.build,
}


def _known(name: Name) -> _Name:
    if name not in KNOWN:
        raise _Refused(f"names {_short('.'.join(name))}, which is no part of an array")
    return _Name(name)


def _dtype(arguments: tuple[Any, ...]) -> np.dtype[Any]:
    code = arguments[0] if arguments else None
    if not (isinstance(code, str) and DTYPE.fullmatch(code)):
        raise _Refused(f"holds values of type {_short(code)} instead of numbers")
    return np.dtype(code)


def _with_order(dtype: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
    if len(state) < 5 or state[1] not in ("<", ">", "|", "=") or state[2:5] != (None,) * 3:
        raise _Refused("holds values of a compound type instead of numbers")
    return dtype.newbyteorder(state[1])


def _from_state(state: tuple[Any, ...]) -> NDArray[Any]:
    """From (version, shape, type, Fortran order?, bytes); old numpy had no version."""
    if len(state) not in (4, 5):
        raise _Refused("damaged: an array without its parts")
    shape, dtype, fortran, raw = state[-4:]
    return _values(raw, dtype, shape, "F" if fortran is True or fortran == 1 else "C")


def _from_buffer(arguments: tuple[Any, ...]) -> NDArray[Any]:
    """From (bytes, type, shape, order[, order of the axes]), as protocol 5 has it."""
    if len(arguments) not in (4, 5):
        raise _Refused("damaged: an array without its parts")
    raw, dtype, shape, order = arguments[:4]
    axes = arguments[4] if len(arguments) == 5 else None
    if order == "K" and isinstance(axes, tuple) and isinstance(shape, tuple):
        if not all(type(a) is int for a in axes) or sorted(axes) != list(range(len(shape))):
            raise _Refused("damaged: axes that are not those of its array")
        return _values(raw, dtype, shape, "C").transpose(axes)
    if order not in ("C", "F"):
        raise _Refused("damaged: an array in no known order")
    return _values(raw, dtype, shape, order)


def _values(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype):
        raise _Refused("damaged: an array without a type")
    if not (isinstance(shape, tuple) and all(type(n) is int and 0 < n < 2**31 for n in shape)):
        raise _Refused(f"holds an array of shape {_short(shape)}")
    if not 1 <= len(shape) <= DEEPEST:
        raise _Refused(f"holds an array of {len(shape)} axes instead of 1 to {DEEPEST}")
    data = _bytes(raw)
    wanted = math.prod(shape) * dtype.dtype.itemsize
    if wanted != len(data):
        raise _Refused(
            f"claims an array of {'×'.join(map(str, shape))} {dtype.dtype.name} "
            f"({wanted} bytes), but has {len(data)} bytes for it"
        )
    values = np.frombuffer(data, dtype.dtype)
    native = dtype.dtype.newbyteorder("=")
    values = values if dtype.dtype.isnative else values.astype(native)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _bytes(raw: Any) -> bytes:
    """The bytes of an array; Python 2 wrote them as a string."""
    if isinstance(raw, str):
        try:
            return raw.encode("latin-1")
        except UnicodeEncodeError:
            raise _Refused("damaged: bytes that are not latin1 text") from None
    if isinstance(raw, (bytes, bytearray)):
        return bytes(raw)
    raise _Refused(f"holds {_kind(raw)} where bytes are expected")


def _kind(value: Any) -> str:
    if isinstance(value, _Name):
        return ".".join(value.name)
    names = {_Array: "an array", _Dtype: "a type"}
    return names.get(type(value)) or f"an object of type {type(value).__name__}"


def _short(value: object) -> str:
    """Text of the file for a message: printable, and not long."""
    text = value if isinstance(value, str) else str(value)
    text = ascii(text)[1:-1]
    return text if len(text) <= 60 else f"{text[:57]}..."
