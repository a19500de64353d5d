"""Numpy arrays out of a pickle file, without unpickling.

A pickle is a program. ``pickle.load`` runs it, and whatever it names. Here the few instructions of
which pickled arrays consist are followed by hand: no name is imported, nothing is called, and all
else is refused. ``pickletools`` of the standard library takes the file apart.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from regtool.data.pickle_parts import (
    Array,
    Dtype,
    Mention,
    Name,
    Refused,
    as_bytes,
    dtype_of,
    from_buffer,
    from_state,
    kind_of,
    short,
    with_order,
)
from regtool.errors import InputError
from regtool.imaging.reading import check_file

LARGEST = 2**29
"""Bytes of a file that is read; 256-cubed volumes as float64 and int64 have half of that."""
LONGEST = 10_000
"""Instructions; two pickled arrays are about 60."""
MOST = 4
"""Arrays in a file."""

RECONSTRUCT = {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
FROMBUFFER = {(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
CLASSES = {("numpy", "ndarray"), ("numpy", "memmap")} | {
    (f"numpy.{core}.memmap", "memmap") for core in ("core", "_core")
}
DTYPE_NAME = ("numpy", "dtype")
ENCODE = ("_codecs", "encode")
KNOWN = RECONSTRUCT | FROMBUFFER | CLASSES | {DTYPE_NAME, ENCODE}
"""The names that pickled arrays mention, of numpy 1 and 2, and of Python 2 and 3."""


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
    except Refused as error:
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
        """Follow all instructions and check what they leave. Raises Refused."""
        for count, (opcode, argument) in enumerate(self._instructions()):
            if count >= LONGEST:
                raise Refused(f"more than {LONGEST} instructions")
            self._follow(opcode, argument)
        if len(self.stack) != 1 or self.marks:
            raise Refused("damaged: it does not end with one object")
        found = self.stack[0]
        parts = found if isinstance(found, (tuple, list)) else (found,)
        if not 1 <= len(parts) <= MOST:
            raise Refused(f"holds {len(parts)} objects instead of 1 to {MOST} arrays")
        arrays = []
        for part in parts:
            if not isinstance(part, Array) or part.values is None:
                raise Refused(f"holds {kind_of(part)} where an array is expected")
            arrays.append(part.values)
        return tuple(arrays)

    def _instructions(self) -> Any:
        """Pairs of an instruction's name and argument; a damaged file raises Refused."""
        try:
            for opcode, argument, _ in pickletools.genops(self.data):
                yield opcode.name, argument
        except (ValueError, IndexError, OverflowError) as error:
            raise Refused(f"not a whole pickle ({short(str(error))})") from None

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
                raise Refused("damaged: it refers to what is not there")
            self.stack.append(self.memo[argument])
        elif opcode == "GLOBAL":
            module, _, name = argument.partition(" ")
            self.stack.append(_known((module, name)))
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise Refused(f"has the instruction {opcode}, which no array needs")

    def _top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused("damaged: it takes what is not there")
        return self.stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self.stack.pop()

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        if not self.marks:
            raise Refused("damaged: it takes what is not there")
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
            raise Refused(f"adds an item to {kind_of(target)}")
        return target

    def global_from_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Refused("damaged: a name that is not text")
        self.stack.append(_known((module, name)))

    def reduce(self) -> None:
        """Where ``pickle.load`` would call something: one of four things is done instead."""
        arguments, called = self._pop(), self._pop()
        name = called.name if isinstance(called, Mention) else None
        if name is None or not isinstance(arguments, tuple):
            raise Refused(f"calls {kind_of(called)}")
        if name in RECONSTRUCT:
            if not (
                arguments and isinstance(arguments[0], Mention) and arguments[0].name in CLASSES
            ):
                raise Refused("makes an object that is not an array")
            self.stack.append(Array())
        elif name == DTYPE_NAME:
            self.stack.append(Dtype(dtype_of(arguments)))
        elif name in FROMBUFFER and arguments:
            self._spend(arguments[0])
            self.stack.append(Array(from_buffer(arguments)))
        elif name == ENCODE:
            self.stack.append(self._encode(arguments))
        else:
            raise Refused(f"calls {'.'.join(name)}")

    def _encode(self, arguments: tuple[Any, ...]) -> bytes:
        """Bytes, which protocols 0 to 2 write as text."""
        if not (len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1"):
            raise Refused("damaged: bytes that are not latin1 text")
        self._spend(arguments[0])
        return as_bytes(arguments[0])

    def _spend(self, raw: object) -> None:
        """Bound what is made of the file's bytes: each makes one array, by way of text at most."""
        self.made += len(raw) if isinstance(raw, (str, bytes, bytearray)) else 0
        if self.made > 2 * len(self.data):
            raise Refused("makes more arrays of its bytes than it holds")

    def build(self) -> None:
        """Give an array or a type its state."""
        state, target = self._pop(), self._top()
        if isinstance(target, Array) and target.values is None and isinstance(state, tuple):
            self._spend(state[-1] if state else None)
            target.values = from_state(state)
        elif isinstance(target, Dtype) and isinstance(state, tuple):
            target.dtype = with_order(target.dtype, state)
        else:
            raise Refused(f"changes {kind_of(target)}")


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


def _known(name: Name) -> Mention:
    if name not in KNOWN:
        raise Refused(f"names {short('.'.join(name))}, which is no part of an array")
    return Mention(name)
