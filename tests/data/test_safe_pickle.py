"""Arrays are read out of pickles; attacks in pickles do nothing."""

from __future__ import annotations

import builtins
import codecs
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickle_cases import GLOBAL_NUMPY, binary_string, brain_arrays, python2_array

from regtool.data import safe_pickle
from regtool.data.safe_pickle import read_arrays
from regtool.errors import InputError


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    return path


def as_numpy_1(data: bytes) -> bytes:
    """The same pickle with the module names of numpy 1: shorter, so lengths must be mended."""
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        data = data.replace(b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(old)]) + old)
        data = data.replace(b"c" + new, b"c" + old)
    if data[2:3] == b"\x95":  # the length of the frame
        data = data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]
    return data


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("old_names", [False, True])
def test_arrays_of_every_protocol(tmp_path: Path, protocol: int, old_names: bool) -> None:
    image, labels = brain_arrays(1)
    arrays = (image, np.asfortranarray(labels), image > 0.5, labels.astype(">f8"))
    data = pickle.dumps(arrays, protocol)
    if old_names:
        data = as_numpy_1(data)
        assert b"numpy.core" in data and b"numpy._core" not in data
    else:
        assert b"numpy._core" in data
    found = read_arrays(written(tmp_path, data))
    assert len(found) == 4
    for one, other in zip(found, arrays, strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype.newbyteorder("=")
    assert found[1].flags.f_contiguous


def test_one_array_a_list_and_a_view(tmp_path: Path) -> None:
    image, _ = brain_arrays(2)
    for given in (image, [image], image[::2, :, ::-1], image.transpose(1, 2, 0)):
        for protocol in (2, 4, 5):
            (found,) = read_arrays(written(tmp_path, pickle.dumps(given, protocol)))
            assert np.array_equal(found, given[0] if isinstance(given, list) else given)


def test_a_memory_map_is_an_array(tmp_path: Path) -> None:
    stored = np.memmap(tmp_path / "values", np.float32, "w+", shape=(2, 3, 4))
    stored[:] = np.arange(24).reshape(2, 3, 4)
    (found,) = read_arrays(written(tmp_path, pickle.dumps(stored, 4)))
    assert type(found) is np.ndarray and np.array_equal(found, stored)


def test_pickles_of_python_2(tmp_path: Path) -> None:
    values = np.arange(12, dtype="<f4").reshape(2, 3, 2)
    data = b"\x80\x02" + python2_array((2, 3, 2), "f4", values.tobytes()) + b"."
    assert np.array_equal(pickle.loads(data, encoding="latin1"), values)  # the fixture is right
    assert np.array_equal(read_arrays(written(tmp_path, data))[0], values)


class Calls:
    """Pickles into a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(mark: Path) -> dict[str, bytes]:
    """Pickles that would, if run, make the file ``mark``."""
    write = f"open({str(mark)!r}, 'w').close()"
    image, labels = brain_arrays(0)
    hidden = np.empty(1, object)
    hidden[0] = Calls(os.system, f"touch {mark}")
    shell = b"cposix\nsystem\n" + binary_string(f"touch {mark}") + b"\x85R"
    inst = b"(V" + f"touch {mark}".encode() + b"\niposix\nsystem\n"
    chain = b"cbuiltins\ngetattr\n" + binary_string("x") + binary_string("join") + b"\x86R"
    return {
        "os.system": pickle.dumps(Calls(os.system, f"touch {mark}")),
        "os.system, protocol 0": pickle.dumps(Calls(os.system, f"touch {mark}"), 0),
        "eval": pickle.dumps(Calls(builtins.eval, write)),
        "exec": pickle.dumps((image, Calls(builtins.exec, write))),
        "popen": pickle.dumps((image, labels, Calls(subprocess.Popen, ["touch", str(mark)]))),
        "object array": pickle.dumps((image, hidden)),
        "object array, protocol 2": pickle.dumps(hidden, 2),
        "chain": pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system")),
        "getattr": b"\x80\x02" + chain + b".",
        "instance": inst + b".",
        "first the call, then arrays": b"\x80\x02" + shell + b"0" + pickle.dumps((image,), 2)[2:],
        "codecs": pickle.dumps(Calls(codecs.open, str(mark), "w")),
        "numpy load": pickle.dumps(Calls(np.load, str(mark))),
        "numpy runstring": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n"
        + binary_string(write) + b"}\x86R.",
        "state of a name": b"\x80\x02" + GLOBAL_NUMPY + b"}X\x01\x00\x00\x00aK\x01sb.",
        "array of a call": b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n(" + shell + b"tR.",
        "subclass": pickle.dumps(np.ma.masked_array([1.0])),
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02K\x01Q.",
        "new object": b"\x80\x02" + GLOBAL_NUMPY + binary_string("f4") + b"\x85\x81.",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(attacks(Path("x"))))
def test_attacks_do_nothing(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    path = written(tmp_path, attacks(mark)[name])
    before, modules = set(vars(builtins)), set(sys.modules)
    with pytest.raises(InputError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "nothing in them is run" in message
    assert "\n" not in message and message.isprintable() and len(message) < 300
    assert not mark.exists()
    assert set(vars(builtins)) == before and set(sys.modules) == modules


def test_the_attacks_are_real(tmp_path: Path) -> None:
    for name in ("os.system", "eval", "exec", "object array", "first the call, then arrays"):
        mark = tmp_path / name.replace(" ", "-")
        pickle.loads(attacks(mark)[name])
        assert mark.exists(), name


def array_pickle(shape: bytes, code: str = "f4", raw: bytes = b"1234") -> bytes:
    return (
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
        b"(K\x01" + shape + GLOBAL_NUMPY + binary_string(code) + b"\x89\x88\x87R"
        b"\x89B" + struct.pack("<I", len(raw)) + raw + b"tb."
    )  # fmt: skip


MEMO = b"\x80\x02B" + struct.pack("<I", 100_000) + bytes(100_000) + b"q\x00"
"""A hundred thousand bytes, remembered as number 0."""
SAME = (
    b"cnumpy._core.numeric\n_frombuffer\n(h\x00" + GLOBAL_NUMPY + b"U\x02u1\x89\x88\x87R"
    b"J" + struct.pack("<i", 100_000) + b"\x85U\x01Ct"
)  # fmt: skip


ENDLESS = b"Nq\x00" + b"h\x00\x86q\x00" * 60 + b"\x85"
"""A pair of the same pair sixty times over: its text or hash would never end."""
NESTED = b")" + b"\x85" * 4000
"""Deeper than Python prints."""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (array_pickle(ENDLESS), "damaged: a shape of no numbers"),
        (array_pickle(NESTED), "damaged: a shape of no numbers"),
        (b"\x80\x02" + GLOBAL_NUMPY + ENDLESS + b"R.", "values of type an object of type tuple"),
        (b"\x80\x02" + GLOBAL_NUMPY + NESTED + b"\x85R.", "values of type an object of type tuple"),
        (array_pickle(b"J\x00\x00\x00\x40K\xffK\xff\x87"), "claims an array of 1073741824×255×255"),
        (array_pickle(b"K\x01\x85"), None),
        (array_pickle(b"K\x00\x85"), "array of shape \\(0,\\)"),
        (array_pickle(b"J\xff\xff\xff\xff\x85"), "array of shape \\(-1,\\)"),
        (array_pickle(b"\x88\x85"), "array of shape \\(True,\\)"),
        (array_pickle(b"(" + b"K\x01" * 5 + b"t"), "of 5 axes instead of 1 to 4"),
        (array_pickle(b"K\x01\x85", "O8"), "values of type O8 instead of numbers"),
        (array_pickle(b"K\x01\x85", "V4"), "values of type V4"),
        (array_pickle(b"K\x01\x85", "f4,O"), "values of type f4,O"),
        (array_pickle(b"K\x01\x85", "c8"), "values of type c8"),
        (array_pickle(b"K\x01\x85", "i4", b"123"), "has 3 bytes for it"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.", "not a whole pickle"),
        (b"\x80\x04\x96" + struct.pack("<Q", 2**63 + 5) + b"abc.", "not a whole pickle"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"N.", "object of type NoneType"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "object of type NoneType"),
        (b"\x80\x02" + b"N" * 20_000 + b".", "more than 10000 instructions"),
        (b"\x80\x02" + b")" + b"\x85" * 4000 + b".", "object of type tuple"),
        (b"\x80\x02Nq\x00" + b"h\x00h\x00\x86q\x00" * 2000 + b".", "does not end with one object"),
        (MEMO + SAME + b"R" + (SAME + b"R") * 5 + b".", "makes more arrays of its bytes"),
        (b"I" + b"9" * 10_000 + b"\n.", "not a whole pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fab.", "not a whole pickle"),
        (b"\x80\x02(K\x01.", "does not end with one object"),
        (b"\x80\x02t.", "takes what is not there"),
        (b"\x80\x02(\x85.", "takes what is not there"),
        (b"\x80\x02h\x07.", "refers to what is not there"),
        (b"\x80\x02].", "holds 0 objects"),
        (b"\x80\x02cos\x1b[31m\nsystem\n.", r"names os\\x1b\[31m\.system"),
        (b"", "the file is empty"),
        (b"not a pickle at all", "not a whole pickle|instruction"),
        (b"\x1f\x8b\x08\x00", "not a whole pickle"),
    ],
)  # fmt: skip
def test_lies_and_damage(tmp_path: Path, data: bytes, says: str | None) -> None:
    path = written(tmp_path, data)
    if says is None:
        assert read_arrays(path)[0].shape == (1,)
        return
    tracemalloc.start()
    with pytest.raises(InputError, match=says) as caught:
        read_arrays(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert peak < 8 * 2**20, "a lie about sizes is not believed"


def test_every_cut_is_refused(tmp_path: Path) -> None:
    image, labels = brain_arrays(0, (2, 3, 2))
    for protocol in (0, 2, 5):
        data = pickle.dumps((image, labels), protocol)
        for end in range(1, len(data), 3):
            with pytest.raises(InputError):
                read_arrays(written(tmp_path, data[:end]))


def test_changed_bytes_do_no_harm(tmp_path: Path) -> None:
    image, labels = brain_arrays(0, (2, 3, 2))
    generator = np.random.default_rng(0)
    for protocol in (2, 4, 5):
        data = np.frombuffer(pickle.dumps((image, labels), protocol), np.uint8)
        for _ in range(300):
            changed = data.copy()
            places = generator.integers(0, len(data), 3)
            changed[places] = generator.integers(0, 256, 3)
            try:
                found = read_arrays(written(tmp_path, changed.tobytes()))
            except InputError:
                continue
            assert all(type(array) is np.ndarray and array.dtype.kind in "biuf" for array in found)


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.pkl"
    with path.open("wb") as stream:
        stream.truncate(safe_pickle.LARGEST + 1)  # a hole: nothing is written to the disk
    with pytest.raises(InputError, match="MiB, more than the 512 MiB"):
        read_arrays(path)


def test_python_2_strings_are_not_believed_either(tmp_path: Path) -> None:
    data = b"\x80\x02" + python2_array((2, 2, 2), "f4", b"short") + b"."
    with pytest.raises(InputError, match=r"claims an array of 2×2×2 float32 \(32 bytes\)"):
        read_arrays(written(tmp_path, data))
